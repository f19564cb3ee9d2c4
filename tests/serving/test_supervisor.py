"""Real processes on one port: swapped, killed, drained, under load."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import psutil
import pytest

from passerelle.errors import DeploymentError, PasserelleError, ServingError
from passerelle.serving.observation import observed, wait_observed
from passerelle.serving.supervisor import serve
from passerelle.serving.tokens import make_token, tokens_path

CLIENT = httpx.Client(verify=False, timeout=60)  # noqa: S501  (no TLS here)
UA = {"distance": 250, "carrier": "UA", "plane": None}


def body(*ids: str, carrier: str = "UA") -> bytes:
    return json.dumps({"events": [{"id": one, "inputs": {**UA, "carrier": carrier}} for one in ids]}).encode()


class Load(threading.Thread):
    """A client that sends requests one after the other, each with ids of its own, until told to stop."""

    def __init__(self, url: str, name: str, *, rows: int = 1, retry: bool = False) -> None:
        super().__init__(name=name)
        self.place = url.removeprefix("http://")
        self.rows = rows
        self.retry = retry
        self.running = True
        self.answered: dict[str, tuple[int, int, float]] = {}
        self.failures: list[str] = []
        self.sent = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection(self.place, timeout=10)
        while self.running:
            ids = [f"{self.name}-{self.sent}-{row}" for row in range(self.rows)]
            self.sent += 1
            while not self._ask(connection, ids) and self.retry:
                connection.close()
                time.sleep(0.02)
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, ids: list[str]) -> bool:
        try:
            connection.request("POST", "/predict", body(*ids), {"Content-Type": "application/json"})
            reply = connection.getresponse()
            answer = json.loads(reply.read())
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(repr(error))
            return False
        if reply.status != 200:
            self.failures.append(f"{reply.status} {answer}")
            return False
        answers = answer["predictions"]
        assert [one["id"] for one in answers] == ids
        assert len({(one["version"], one["revision"], one["probability"]) for one in answers}) == 1
        for one in answers:
            self.answered[one["id"]] = (one["version"], one["revision"], one["probability"])
        return True


def under_load(url: str, act: Callable[[], None], *, retry: bool = False) -> list[Load]:
    clients = [Load(url, f"client{number}", rows=rows, retry=retry) for number, rows in enumerate((1, 1, 20))]
    for client in clients:
        client.start()
    time.sleep(0.3)
    act()
    time.sleep(0.3)
    for client in clients:
        client.running = False
    for client in clients:
        client.join()
    return clients


def ends(processes: list[psutil.Process], within_s: float) -> bool:
    return not psutil.wait_procs(processes, timeout=within_s)[1]


def test_twenty_revisions_under_load_fail_no_request(land: Any) -> None:
    land.deploy(1)
    with land.serve(workers=2) as endpoint:

        def act() -> None:
            for version in range(2, 21):
                wait_observed(land.environment, land.deploy(version), 2, 10)

        clients = under_load(endpoint.url, act)
    answered = {one: answer for client in clients for one, answer in client.answered.items()}
    assert [client.failures for client in clients] == [[], [], []]
    assert {revision for _, revision, _ in answered.values()} == set(range(1, 21))
    assert all(version == revision == probability * 1000 for version, revision, probability in answered.values())
    assert {one.id: (one.version, one.revision, one.output[0]) for one in land.records()} == answered
    assert len(land.records()) == len(answered)


def test_killing_workers_under_load_loses_nothing_that_was_answered(land: Any) -> None:
    land.deploy(7)
    with land.serve(workers=2) as endpoint:

        def act() -> None:
            for slot in ("w0", "w1", "w0"):
                victim = observed(land.environment)[slot].pid
                os.kill(victim, signal.SIGKILL)
                while observed(land.environment)[slot].pid == victim:
                    time.sleep(0.02)
            wait_observed(land.environment, 1, 2, 10)

        clients = under_load(endpoint.url, act, retry=True)
    answered = {one for client in clients for one in client.answered}
    assert answered == {
        f"{client.name}-{number}-{row}"
        for client in clients
        for number in range(client.sent)
        for row in range(client.rows)
    }
    assert {one.id for one in land.records()} == answered
    # Nobody was turned away: connections broke, none was refused, no answer was an error.
    refused = [
        failure for client in clients for failure in client.failures if "Refused" in failure or failure[0].isdigit()
    ]
    assert refused == []


def test_when_the_only_worker_dies_connections_wait_for_the_next(land: Any) -> None:
    land.deploy(7)
    with land.serve() as endpoint:
        victim = observed(land.environment)["w0"].pid
        os.kill(victim, signal.SIGKILL)
        reply = CLIENT.post(
            f"{endpoint.url}/predict", content=body("a"), headers={"content-type": "application/json"}, timeout=20
        )
        assert reply.json()["predictions"][0]["probability"] == 0.007
        assert observed(land.environment)["w0"].pid != victim


def test_sigterm_answers_what_is_in_flight_and_closes_the_ledger(land: Any) -> None:
    land.deploy(7)
    endpoint = land.serve(workers=2)
    processes = land.processes(endpoint)
    answers: list[httpx.Response] = []
    slow = threading.Thread(
        target=lambda: answers.append(
            CLIENT.post(
                f"{endpoint.url}/predict",
                content=body("a", "b", carrier="slow"),
                headers={"content-type": "application/json"},
            )
        )
    )
    slow.start()
    time.sleep(0.2)
    endpoint.process.send_signal(signal.SIGTERM)
    assert endpoint.process.wait(30) == 0
    assert ends(processes[1:], 0)
    slow.join()
    assert answers[0].status_code == 200
    assert [one.id for one in land.records()] == ["a", "b"]
    endpoint.stop()
    segments = list((land.project.state / "ledger" / "production" / "segments").iterdir())
    assert [path.suffix for path in segments if path.suffix in (".open", ".seg")] == [".seg"]


def test_a_killed_supervisor_leaves_no_worker_and_the_next_one_starts(land: Any) -> None:
    land.deploy(7)
    endpoint = land.serve(workers=2)
    processes = land.processes(endpoint)
    assert len(processes) == 3
    endpoint.process.kill()
    with land.serve(workers=2) as next_one:
        assert ends(processes[1:], 0)  # the next one waited for them: they hold the ledger's slots
        assert CLIENT.get(f"{next_one.url}/ready").status_code == 200
    endpoint.stop()


def test_an_endpoint_ends_with_whoever_started_it(land: Any) -> None:
    land.deploy(7)
    script = (
        "import sys, time\n"
        "from passerelle.project.settings import find_project\n"
        "from passerelle.serving.endpoint import start_endpoint\n"
        "from pathlib import Path\n"
        f"project = find_project(Path({str(land.project.root)!r}))\n"
        f"endpoint = start_endpoint(project, 'production', command={land.supervisor!r})\n"
        "print(endpoint.process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        assert len(processes) == 2
        parent.kill()
    assert ends(processes, 10)


def test_a_revision_that_cannot_be_loaded_leaves_the_old_one_answering_even_after_a_crash(land: Any) -> None:
    land.deploy(7)
    with land.serve(workers=2) as endpoint:
        bad = land.deploy(901)
        with pytest.raises(DeploymentError, match="revision 2 could not be applied: version 901 lost its golden rows"):
            wait_observed(land.environment, bad, 2, 10)
        victim = observed(land.environment)["w0"].pid
        os.kill(victim, signal.SIGKILL)
        while observed(land.environment)["w0"].pid == victim:
            time.sleep(0.02)
        wait_observed(land.environment, 1, 2, 10)  # the new worker too: from what the old one had applied
        for _ in range(20):
            state = json.loads(ask(endpoint.url, "/ready"))
            assert (state["revision"], state["problem"]["revision"]) == (1, 2)
            assert "lost its golden rows" in state["problem"]["reason"]
        wait_observed(land.environment, land.deploy(8), 2, 10)
        assert CLIENT.get(f"{endpoint.url}/ready").json()["problem"] is None


def test_metrics_are_of_all_workers(land: Any) -> None:
    """One worker is stopped, so that the other answers; then the other way round: each has counted three events."""
    land.deploy(7)
    with land.serve(workers=2) as endpoint:
        pids = [one.pid for one in observed(land.environment).values()]
        for number, stopped in enumerate(pids):
            os.kill(stopped, signal.SIGSTOP)
            try:
                for row in range(3):
                    ask(endpoint.url, "/predict", body(f"{number}-{row}"))
                text = ask(endpoint.url, "/metrics")
            finally:
                os.kill(stopped, signal.SIGCONT)
            assert f'passerelle_events_total{{role="live",status="scored",version="7"}} {3 * (number + 1)}.0' in text
            assert "passerelle_revision 1.0" in text


def ask(url: str, path: str, content: bytes | None = None) -> str:
    """Over a connection of its own, so that any worker may take it."""
    method = "GET" if content is None else "POST"
    headers = {"content-type": "application/json", "connection": "close"}
    reply = CLIENT.request(method, url + path, content=content, headers=headers, timeout=20)
    assert reply.status_code == 200
    return reply.text


def test_a_worker_that_has_not_applied_a_revision_is_named(land: Any) -> None:
    land.deploy(7)
    with land.serve() as endpoint:
        wait_observed(land.environment, 1, 1, 1)
        with pytest.raises(DeploymentError, match=r"after 0\.2 s revision 1 is not applied by w1"):
            wait_observed(land.environment, 1, 2, 0.2)
        assert endpoint.process.poll() is None
    with pytest.raises(DeploymentError, match="is not applied by w0"):
        wait_observed(land.environment, 1, 1, 0.1)  # its worker is dead


def test_what_keeps_an_endpoint_from_starting_is_said(land: Any) -> None:
    with pytest.raises(ServingError, match="production has no revision yet: make one with passerelle deploy"):
        land.serve()
    land.deploy(901)
    with pytest.raises(ServingError, match="revision 1 cannot be served: version 901 lost its golden rows"):
        land.serve()
    land.deploy(7)
    with pytest.raises(ServingError, match="can be reached from other machines and there is no token"):
        serve(land.project, "production", host="0.0.0.0", port=0, workers=1)  # noqa: S104  (it is refused)
    with pytest.raises(ServingError, match=r"'no\.such\.host\.invalid' is not an address of this machine"):
        serve(with_token(land), "production", host="no.such.host.invalid", port=0, workers=1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"port {port} on 127.0.0.1 is in use: .* --port {port + 1}"):
            land.serve(port=port)


def with_token(land: Any) -> Any:
    make_token(tokens_path(land.project.state), name="t", scopes=("read",), created_at=datetime.now(UTC))
    return land.project


def test_workers_are_started_without_the_secrets_of_who_serves(land: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSERELLE_KEY", "a signing key")
    monkeypatch.setenv("DATABASE", "postgres://me:pw@host/db")
    monkeypatch.setenv("LOG_LEVEL", "info")
    land.deploy(7)
    with land.serve() as endpoint:
        worker = psutil.Process(observed(land.environment)["w0"].pid).environ()
        assert worker.keys() & {"PASSERELLE_KEY", "DATABASE"} == set()
        assert worker["LOG_LEVEL"] == "info"
        assert CLIENT.get(f"{endpoint.url}/live").status_code == 200


def test_an_environment_is_served_once(land: Any) -> None:
    land.deploy(7)
    with land.serve() as endpoint:
        with pytest.raises(PasserelleError, match=f"production is served already, by process {endpoint.process.pid}"):
            land.serve()
        assert CLIENT.get(f"{endpoint.url}/live").status_code == 200


def test_a_new_token_counts_without_a_restart(land: Any) -> None:
    land.deploy(7)
    with land.serve() as endpoint:
        assert CLIENT.get(f"{endpoint.url}/ready").status_code == 200
        token = make_token(tokens_path(land.project.state), name="t", scopes=("read",), created_at=datetime.now(UTC))
        time.sleep(0.5)
        assert CLIENT.get(f"{endpoint.url}/ready").status_code == 401
        bearer = {"authorization": f"Bearer {token}"}
        assert CLIENT.get(f"{endpoint.url}/ready", headers=bearer).status_code == 200
        assert CLIENT.post(f"{endpoint.url}/predict", headers=bearer).status_code == 403
