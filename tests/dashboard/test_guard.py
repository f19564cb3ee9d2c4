"""Who may read and who may act: tokens, Origin, Host, cookies, and what every answer carries."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import lived
import pytest
from shown import PAGES, ask

from passerelle.bundle.keys import public_hex, throwaway_key, trust
from passerelle.dashboard.guard import COOKIE
from passerelle.dashboard.reading import Reader
from passerelle.errors import ServingError
from passerelle.loop.rollout import deploy, revisions
from passerelle.loop.train import registry_of
from passerelle.project.settings import FILE, Project, load_project
from passerelle.serving.tokens import Scope, make_token, revoke_token, tokens_path
from passerelle.state.database import open_state
from passerelle.trial import trials

READS = [path for name, path in PAGES.items() if name != "token"] + ["/fingerprint"]
EVERYWHERE = "0.0.0.0"  # noqa: S104  (what the dashboard is told; the test listens on loopback)
ACTIONS = ("approve", "refuse", "stop", "rollback", "acknowledge", "silence", "unsilence", "normal", "incident")


def token(project: Project, *scopes: Scope, days: int = 1) -> str:
    now = datetime.now(UTC)
    path, until = tokens_path(project.state), now + timedelta(days=days)
    return make_token(path, name="-".join(scopes), scopes=scopes, created_at=now, expires_at=until)


def origin(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


def give(client: httpx.Client, secret: str) -> httpx.Response:
    """Give a token by the form, as a browser does: the client keeps the cookie."""
    return client.post("/token", data={"token": secret}, headers={"Origin": origin(client)})


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project where version 1 answers, and the verdict on version 2 waits for a person."""
    project = lived.scaffold(tmp_path_factory.mktemp("made"), approval="human")
    key = throwaway_key()
    trust(project.state, public_hex(key))
    for number in (1, 2):
        lived.version(project, number, key, at=lived.YEAR)
    deploy(project, registry_of(project), 1, now=lived.YEAR)
    plan = lived.make_plan(champion=1, challenger=2, revision=2, at=lived.YEAR + lived.DAY)
    deploy(project, registry_of(project), 2, shadow=True, trial=plan.id, now=lived.YEAR + lived.DAY)
    begun = trials.start(open_state(project.state), plan)
    lived.fill(project, begun.plan, days=20, shift=-0.006)
    lived.decide(project, begun, at=lived.YEAR + 25 * lived.DAY)
    return project


@pytest.fixture
def two(made: Project, tmp_path: Path) -> Project:
    """A copy of it, to act on."""
    return load_project(Path(shutil.copytree(made.root, tmp_path / "two")) / FILE)


@pytest.mark.parametrize("path", [*READS, "/token", "/nothing", "/static/style.css"])
def test_every_answer_keeps_to_itself(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_what_nobody_foresaw_keeps_to_itself_and_says_nothing(
    bare: Project, monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("psr_secret")

    with ask(bare) as client:
        monkeypatch.setattr(Reader, "fingerprint", fail)
        answer = client.get("/timeline", headers={"Accept": accept})
    assert answer.status_code == 500
    assert (answer.headers["x-content-type-options"], answer.headers["content-security-policy"][:18]) == (
        "nosniff",
        "default-src 'none'",
    )
    assert answer.headers["content-type"].startswith("application/json" if "json" in accept else "text/plain")
    assert "psr_secret" not in answer.text


def test_without_tokens_only_a_loopback_name_reads_and_nobody_acts(bare: Project) -> None:
    with ask(bare) as client:
        assert client.get("/").status_code == 200
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
        for name in ACTIONS:
            answer = client.post(f"/actions/{name}", headers={"Origin": origin(client)})
            assert answer.status_code == 403
            assert "scope admin" in answer.text
        assert give(client, "").status_code == 403


def test_beyond_loopback_every_page_needs_a_token(bare: Project) -> None:
    with pytest.raises(ServingError, match="there is no token"), ask(bare, host=EVERYWHERE):
        pass
    secret = token(bare, "read")
    with ask(bare, host=EVERYWHERE) as client:
        for path in READS:
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"Authorization": "Bearer psr_wrong"}).status_code == 403
            assert client.get(path, headers={"Authorization": f"Bearer {secret}"}).status_code in (200, 204)
        assert 'name="token"' in client.get("/").text


@pytest.mark.parametrize("scope", ["predict", "label"])
def test_a_token_for_something_else_reads_nothing(bare: Project, scope: Scope) -> None:
    secret = token(bare, scope)
    with ask(bare) as client:
        assert give(client, secret).status_code == 403
        assert client.get("/", headers={"Authorization": f"Bearer {secret}"}).status_code == 403


def test_a_token_is_kept_where_no_script_reads_it_and_ends_at_once(bare: Project) -> None:
    secret = token(bare, "read")
    with ask(bare) as client:
        assert client.get("/").status_code == 401
        answer = give(client, secret)
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert secret not in cookie  # a browser sends it to every port of this machine
        assert client.get("/").status_code == 200
        assert secret not in client.get("/").text
        assert client.post("/actions/rollback", headers={"Origin": origin(client)}).status_code == 403
        assert "You may read here, not act." in client.get("/").text
        token(bare, "admin")
        revoke_token(tokens_path(bare.state), "read")
        assert client.get("/").status_code == 403


def test_a_token_that_has_expired_is_no_token(bare: Project) -> None:
    secret = token(bare, "admin", days=-1)
    with ask(bare) as client:
        assert give(client, secret).status_code == 403


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "null"}, {"Origin": "https://evil.example"}, {"Origin": "http://127.0.0.1:1"}]
)
def test_a_form_of_another_page_does_nothing(two: Project, headers: dict[str, str]) -> None:
    secret = token(two, "admin")
    with ask(two) as client:
        give(client, secret)
        for path in ("/token", "/leave", *(f"/actions/{name}" for name in ACTIONS)):
            data = {"revision": "2", "trial": "production-2-2", "token": secret}
            answer = client.post(path, data=data, headers=headers)
            assert answer.status_code == 403
            assert "page of another site" in answer.text
    assert revisions(two, "production").numbers() == [1, 2]


def test_leaving_forgets_the_token(bare: Project) -> None:
    secret = token(bare, "admin")
    with ask(bare) as client:
        give(client, secret)
        assert "You may act here." in client.get("/").text
        session = client.cookies[COOKIE]
        client.post("/leave", headers={"Origin": origin(client)})
        assert client.get("/").status_code == 401
        for cookie in (session, secret):  # it is over here, too; and a token is no session
            client.cookies.set(COOKIE, cookie)
            assert client.get("/").status_code == 401


def test_only_who_may_act_is_shown_how(two: Project) -> None:
    reading, acting = token(two, "read"), token(two, "admin")
    with ask(two) as client:
        give(client, reading)
        assert "/actions/" not in client.get("/").text
        give(client, acting)
        assert {name for name in ACTIONS if f"/actions/{name}" in client.get("/").text} == {
            "approve",
            "refuse",
            "rollback",
        }
        assert "/actions/approve" in client.get("/trial").text


def test_an_admin_rolls_back_what_the_page_showed_once(two: Project) -> None:
    secret = token(two, "admin")
    with ask(two) as client:
        give(client, secret)
        sent = {"Origin": origin(client)}
        data = {"revision": "2", "reason": "it is <slow>"}
        assert client.post("/actions/rollback", data=data, headers=sent).headers["location"] == "/"
        made = revisions(two, "production").current()
        assert made is not None
        assert (made.revision, made.reason, made.created_at) == (3, "it is <slow>", lived.NOW)
        assert [variant.version for variant in made.variants] == [1]
        again = client.post("/actions/rollback", data=data, headers=sent)
        assert again.status_code == 409
        assert "Another revision was made" in again.text
        assert "it is &lt;slow&gt;" in client.get("/").text
    assert revisions(two, "production").numbers() == [1, 2, 3]


def test_a_reason_or_form_that_is_too_long_does_nothing(two: Project) -> None:
    secret = token(two, "admin")
    with ask(two) as client:
        give(client, secret)
        for reason in ("x" * 301, "x" * 9000):
            data = {"revision": "2", "reason": reason}
            assert client.post("/actions/rollback", data=data, headers={"Origin": origin(client)}).status_code == 409
    assert revisions(two, "production").numbers() == [1, 2]


@pytest.mark.parametrize(("name", "version"), [("approve", 2), ("refuse", 1)])
def test_a_person_decides_on_a_waiting_verdict(two: Project, name: str, version: int) -> None:
    current = revisions(two, "production").current()
    assert current is not None
    secret = token(two, "admin")
    with ask(two) as client:
        give(client, secret)
        assert (
            "the verdict on version 2 is PROMOTE and waits for a person"
            in client.get("/?format=json").json()["sentence"]
        )
        stale = client.post(f"/actions/{name}", data={"trial": "production-1-1"}, headers={"Origin": origin(client)})
        assert stale.status_code == 409
        assert trials.current(open_state(two.state), "production") is not None
        done = client.post(f"/actions/{name}", data={"trial": "production-2-2"}, headers={"Origin": origin(client)})
        assert done.status_code == 303
    ended = trials.find(open_state(two.state), "production-2-2")
    assert ended is not None
    assert ended.status == "ended"
    assert ended.execution is not None
    assert f"version {version} answers alone" in ended.execution


def test_an_unknown_action_is_404(two: Project) -> None:
    secret = token(two, "admin")
    with ask(two) as client:
        give(client, secret)
        assert client.post("/actions/format", headers={"Origin": origin(client)}).status_code == 404
        assert client.get("/actions/rollback").status_code == 404
