#!/bin/sh
# New hashed, universal requirements from pyproject.toml: requirements.txt for the tour, requirements-test.txt for all.
set -eu
python3 -m venv .tools/lock
.tools/lock/bin/pip install --quiet uv==0.13.9
compile() {
    .tools/lock/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" pyproject.toml "$@"
}
# All first: what the clouds' libraries need must hold in the tour's environment, too.
compile --extra all --group test -o requirements-test.txt
compile --extra control --group example -c requirements-test.txt -o requirements.txt
# The environment of somebody else's notebook, in tests/journey: older libraries, and no Passerelle but its light half.
printf '%s\n' "pandas==2.2.3" "scikit-learn==1.6.1" "ipykernel==6.29.5" "click" "cloudpickle" "msgspec" > .tools/foreign.in
.tools/lock/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate \
    --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
    .tools/foreign.in -o tests/journey/requirements-foreign.txt
