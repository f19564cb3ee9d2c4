"""A job's token is put where the clouds' libraries look for it, readable by its user alone."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path

import pytest

from passerelle.loop.identity import IdentityError, identify


class _Service(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"value": f"{self.path} {self.headers['Authorization']}"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def test_github_is_asked_for_the_clouds_audience(tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{server.server_port}/token?v=1"
        given = {"AWS_ROLE_ARN": "arn", "ACTIONS_ID_TOKEN_REQUEST_URL": at, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "hush"}
        found = identify(tmp_path, given)
        server.shutdown()
    path = Path(found.pop("AWS_WEB_IDENTITY_TOKEN_FILE"))
    assert (found, path.read_text()) == ({}, "/token?v=1&audience=sts.amazonaws.com Bearer hush")
    assert path.stat().st_mode & 0o777 == 0o600


def test_google_gets_an_external_account_and_nobody_is_asked_for_what_is_not_named(tmp_path: Path) -> None:
    assert identify(tmp_path, {"PASSERELLE_ID_TOKEN": "t"}) == {}
    found = identify(tmp_path, {"PASSERELLE_ID_TOKEN": "t", "GOOGLE_WORKLOAD_PROVIDER": "projects/1/providers/p"})
    account = json.loads(Path(found["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
    assert account["audience"] == "//iam.googleapis.com/projects/1/providers/p"
    assert Path(account["credential_source"]["file"]).read_text() == "t"
    with pytest.raises(IdentityError, match="id-token: write"):
        identify(tmp_path, {"AZURE_CLIENT_ID": "a"})
