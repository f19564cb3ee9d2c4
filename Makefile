# Two commands do all the set-up on a fresh machine: `make tour` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: tour test check bench soak test-system lock

tour: .venv/tour.stamp  ## the main job, on real data: a year of production, retrained, tried, promoted, watched
	$(BIN)/passerelle tour examples/flights

test: .venv/test.stamp  ## every test that this machine can run
	$(BIN)/pytest -n 2 --dist worksteal

check: .venv/test.stamp  ## style, types, directions of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_house.py

bench: .venv/test.stamp  ## how fast it is here: the endpoint with each kind of ledger, the ledger, the injector's own ceiling; the statistics' bars, small
	$(BIN)/python tests/serving/measure.py durable
	$(BIN)/python tests/serving/measure.py async
	$(BIN)/python tests/ledger/measuring.py
	$(BIN)/python tests/load/measure.py
	$(BIN)/python -m benchmarks.statistics --small

soak: .venv/test.stamp  ## the long tests at full size: kill -9 at every step and many moments, all clouds, the image, the statistics' bars, a whole year audited
	$(BIN)/python examples/flights/analysis/rolling_origin.py
	$(BIN)/python -m benchmarks.statistics
	! $(BIN)/python -m benchmarks.statistics --naive
	$(BIN)/python -m benchmarks.statistics.page
	PASSERELLE_SOAK=1 $(BIN)/pytest tests/ledger/test_compaction.py tests/loop/test_walk.py tests/project/test_ci_shared.py \
	  tests/journey/test_tour.py tests/journey/test_live_suite.py tests/journey/test_clouds.py tests/adapters tests/deployment/test_image_built.py tests/trial tests/dashboard/test_performed.py
	$(BIN)/passerelle tour examples/flights
	$(BIN)/python examples/flights/analysis/value.py --compare tour-report/report.json
	$(BIN)/python examples/flights/analysis/recompute_verdicts.py tour-report/project
	$(BIN)/python tests/journey/rearriving.py tour-report/project

test-system:  ## the system parts that some tests need (root, Debian)
	sh tests/system/install.sh

lock:  ## new hashed requirements, from pyproject.toml
	sh requirements.sh

.venv/tour.stamp: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

.venv/test.stamp: requirements-test.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-test.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@ .venv/tour.stamp
