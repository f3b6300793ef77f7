"""What happens around every page, whoever asks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient

from airflow_jobs_plugin.errors import ConflictError, DefinitionError, NotFoundError
from airflow_jobs_plugin.ui import assets, errors, security
from airflow_jobs_plugin.ui.security import Guarded

OWN = {"name": "anna", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """An app with a page for each thing that goes wrong, for which everybody is known but those without a name."""

    class User:
        def get_name(self) -> str:
            return "anna"

    async def identify(request: Any) -> User:
        if "name" not in request.headers:
            raise HTTPException(401, "Not authenticated")
        return User()

    monkeypatch.setattr(security, "identify", identify)
    app = FastAPI()
    wrong = {
        "explodes": RuntimeError("the secret of the house"),
        "missing": NotFoundError("job-not-found", "there is no job <b>"),
        "conflict": ConflictError("job-paused", "it is paused"),
        "definition": DefinitionError("payload: is missing"),
        "forbidden": HTTPException(403, "you may not"),
    }

    @app.get("/{what}")
    def fail(what: str) -> None:
        raise wrong[what]

    @app.post("/change")
    def change() -> PlainTextResponse:
        return PlainTextResponse("done")

    app.include_router(assets.router)
    app.add_middleware(Guarded)
    errors.install(app)
    with TestClient(app, raise_server_exceptions=False, headers=OWN) as found:
        yield found


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("missing", 404, "there is no job &lt;b&gt;"),
        ("conflict", 409, "it is paused"),
        ("definition", 422, "payload: is missing"),
        ("forbidden", 403, "you may not"),
        ("explodes", 500, "The server&#39;s log says more"),
    ],
)
def test_every_error_is_a_page_that_says_so(client: TestClient, path: str, status: int, says: str) -> None:
    answer = client.get(f"/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert says in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "\n" not in answer.headers["x-error"]


def test_what_went_wrong_inside_is_in_the_log_alone(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = client.get("/explodes")
    assert "secret of the house" not in answer.text
    assert "secret of the house" in caplog.text
    number = answer.text.partition("under ")[2][:36]
    assert number in caplog.text


def test_a_stranger_gets_no_further(client: TestClient) -> None:
    client.headers.pop("name")
    for path in ("/missing", "/explodes", "/static/x", "/static"):
        assert client.get(path).status_code == 401 or path.startswith("/static/")
    assert client.post("/change", data={"a": "b"}).status_code == 401
    assert client.post("/static/x/app.css", data={"a": "b"}).status_code == 401
    assert client.get(f"/static/{assets.version()}/app.css").status_code == 200


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/x-www-form-urlencoded", b"a=b", 200),
        ("application/x-www-form-urlencoded; charset=utf-8", b"a=b", 200),
        ("", b"", 415),
        ("text/plain", b"a=b", 415),
        ("multipart/form-data; boundary=x", b"", 415),
        ("application/json", b"{}", 415),
    ],
)
def test_what_changes_something_is_a_form(client: TestClient, kind: str, body: bytes, status: int) -> None:
    assert client.post("/change", content=body, headers={"Content-Type": kind}).status_code == status


def test_a_body_says_how_long_it_is(client: TestClient) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/change", content=iter([b"a=b"]), headers=form).status_code == 411
    assert client.post("/change", content=b"a", headers=form | {"Content-Length": str(1 << 40)}).status_code == 413


@pytest.mark.parametrize(
    "said", [{"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}, {}]
)
def test_a_token_is_no_permission_for_other_sites(client: TestClient, said: dict[str, str]) -> None:
    client.headers.pop("Sec-Fetch-Site")
    token = {"Authorization": "Bearer x", "x-api-key": "x", "Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post("/change", content=b"a=b", headers=token | said)
    assert (answer.status_code, "one of these pages" in answer.text) == (403, True)
    assert client.post("/change", content=b"a=b", headers=token | {"Origin": "http://testserver"}).status_code == 200
