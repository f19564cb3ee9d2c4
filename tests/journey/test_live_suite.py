"""The suite for people with an account, run against moto's AWS: it passes there, and leaves nothing however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aws_place
import clouds
import pytest
import requests
from clouds import Cloud
from living_live import LIVE, ROOT, command, run
from trainers import training

if not os.environ.get("PASSERELLE_SOAK"):
    # Not collected but by make soak: it takes minutes. (Empty, for doctest reads it, too.)
    __test__: dict[str, str] = {}
pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("clouds")]


@contextmanager
def runtime(cloud: Cloud, folder: Path) -> Iterator[str]:
    """SageMaker's other address, where endpoints are asked: what is in service is started at the first question."""
    with ExitStack() as stack:
        lock, started = threading.Lock(), list[str]()

        class Asked(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    if not started:
                        started.append(stack.enter_context(clouds.running(cloud, folder)))
                assert self.path.endswith("-production/invocations"), self.path
                answer = requests.post(f"{started[0]}/invocations", data=body, timeout=30)
                self.send_response(answer.status_code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_live_suite_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "runtime"))
    # Left by close: what it checks at its end are the policies of the project "orders".
    with closing(clouds.sagemaker().gen) as place:  # type: ignore[attr-defined]
        cloud = next(place)
        settings = tmp_path / "live.toml"
        settings.write_text(f"[live]\nprice_per_hour = 0.3\nminutes = 8\n[targets.aws]{cloud.settings}")
        options = ["--live", f"--live-settings={settings}"]
        address = cloud.variables["AWS_ENDPOINT_URL"]

        with training("sagemaker", cloud.variables, tmp_path / "jobs") as begun:
            # Killed while the job runs: the mark says what is left, and the second command removes it.
            killed = subprocess.Popen(
                command(tmp_path / "killed", *options),
                cwd=ROOT,
                env=os.environ | {"PASSERELLE_LIVE_BUDGET": "5"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            while not aws_place.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]:
                assert killed.poll() is None, "it ended before a job was asked for"
                time.sleep(0.1)
            os.killpg(killed.pid, signal.SIGKILL)
            killed.wait()
            assert any(one.endswith("/mark") for one in aws_place.there())
            while not begun:
                time.sleep(0.1)
            clear = [sys.executable, str(LIVE / "clear.py"), str(settings)]
            cleared = subprocess.run(clear, cwd=ROOT, capture_output=True, text=True, check=False)
            assert cleared.stdout.startswith("removed live-"), cleared.stderr
            assert aws_place.there() == []

            # A cloud that refuses in the midst: the test fails, and nothing is left.
            refusal = {"times": 9, "message": "no more machines", "code": "ResourceLimitExceeded"}
            aws_place.control(address, "_order", {"refuse": {"sagemaker:CreateEndpoint": refusal}})
            failed = run(tmp_path / "failed", *options)
            assert failed.returncode == pytest.ExitCode.TESTS_FAILED
            assert "no more machines" in failed.stdout
            assert aws_place.there() == []

            # And it passes.
            aws_place.control(address, "_order", {"refuse": {}})
            (tmp_path / "container").mkdir()
            with runtime(cloud, tmp_path / "container") as other:
                monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", other)
                passed = run(tmp_path / "passed", *options)
            assert passed.returncode == 0, passed.stdout
            assert aws_place.there() == []
        assert len(begun) == 3
