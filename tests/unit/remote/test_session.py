"""What goes wrong between a command and an Airflow is said in one line, with what to do."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from airflow_jobs_plugin.demo.server import Received, Reply

from .conftest import Cli, FakeAirflow, refusal

HOW = "give a token in AIRFLOW_JOBS_TOKEN or --token-file, or AIRFLOW_JOBS_USERNAME and AIRFLOW_JOBS_PASSWORD"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_nothing_listens(cli: Cli) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert cli("list", "--url", url) == 1
    assert cli.err.startswith(f"cannot reach {url}: ")
    assert "refused" in cli.err
    assert cli.err.endswith("; AIRFLOW_JOBS_URL or --url says where Airflow is\n")
    assert cli.out == ""


def test_an_answer_that_breaks_off_is_no_answer(cli: Cli, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        if os.fork() == 0:
            connection, _ = server.accept()
            connection.recv(10_000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n")
            connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}\n{}\r\n")
            connection.close()
            os._exit(0)
        (tmp_path / "token").write_text("t0ken\n")
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        file = tmp_path / "results.jsonl"
        assert cli("results", "a", "b", "--output", file, "--url", url, "--token-file", tmp_path / "token") == 1
        os.wait()
    assert cli.err.startswith(f"the connection to {url} broke: ")
    assert list(tmp_path.iterdir()) == [tmp_path / "token"], "half of the results are not left to look like all"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (refusal(401, "Token Expired"), f"{{url}} does not accept the token (Token Expired); {HOW}"),
        (refusal(403, "Invalid JWT token"), f"{{url}} does not accept the token (Invalid JWT token); {HOW}"),
        (refusal(403, "you may not do this to the job 'a'"), "not allowed: you may not do this to the job 'a'"),
        (refusal(404, "there is no job 'a'"), "there is no job 'a'"),
        (refusal(409, "the job 'a' is paused; resume it first"), "the job 'a' is paused; resume it first"),
        (refusal(412, "'a' is no longer what If-Match names"), "'a' is no longer what If-Match names"),
        (
            refusal(422, "all at once", ("note", "too long"), ("payload[3].retry", "no object"), ("", "odd")),
            "note: too long\npayload[3].retry: no object\nodd",
        ),
        (refusal(422, "conf: a: x\nconf: b: y"), "conf: a: x\nconf: b: y"),
        (refusal(500, "oh"), "{url} failed: oh (correlationId c-1)"),
        (Reply(502), "{url} cannot answer at this moment (status 502)"),
        (refusal(404, "\x1b[2J\x07\u202egone"), "\\x1b[2J\\x07\\u202egone"),
        (
            Reply(200, "home", {"Content-Type": "text/html; charset=utf-8"}),
            "{url} answers /jobs/api/v1/jobs/a with 200 and text/html; "
            "is it the base URL of an Airflow with the jobs plugin?",
        ),
        (
            Reply(404, {"detail": "Not Found"}),
            "{url} answers /jobs/api/v1/jobs/a with 404 and application/json; "
            "is it the base URL of an Airflow with the jobs plugin?",
        ),
        (
            Reply(308, None, {"Location": "https://elsewhere/"}),
            "{url} leads elsewhere, to https://elsewhere/; give that URL",
        ),
    ],
)
def test_a_refusal_is_said_in_words(airflow: FakeAirflow, cli: Cli, reply: Reply, said: str) -> None:
    airflow.on("GET /jobs/a", reply)
    for options in ([], ["--json"]):
        assert cli("show", "a", *options) == 1
        assert cli.err == said.replace("{url}", airflow.url) + "\n"
        assert cli.out == ""


def test_without_credentials_the_token_that_everybody_gets_is_used(airflow: FakeAirflow, cli: Cli) -> None:
    airflow.on("POST /jobs/a/pause", Reply(200, {"message": "Paused"}))
    assert cli("pause", "a") == 0
    assert cli.out == "a: Paused\n"
    (request,) = airflow.asked()
    assert request.headers["authorization"] == "Bearer t0ken"


@pytest.mark.parametrize("status", [401, 403, 405, 422])
def test_where_nobody_gets_a_token_it_says_how_to_bring_one(airflow: FakeAirflow, cli: Cli, status: int) -> None:
    airflow.on("GET /auth/token", Reply(status, {"detail": "no"}))
    assert cli("list") == 1
    assert cli.err == f"{airflow.url} wants to know who asks; {HOW}\n"
    assert airflow.asked() == []


def test_user_and_password_get_a_token(airflow: FakeAirflow, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_JOBS_USERNAME", "anna")
    monkeypatch.setenv("AIRFLOW_JOBS_PASSWORD", "pässword")
    airflow.on("POST /auth/token", Reply(201, {"access_token": "annas"}))
    airflow.on("GET /jobs", Reply(200, []))
    assert cli("list") == 0
    login, request = airflow.ledger.all()
    assert login.body == {"username": "anna", "password": "pässword"}
    assert request.headers["authorization"] == "Bearer annas"

    airflow.on("POST /auth/token", Reply(401, {"detail": "Invalid credentials"}))
    assert cli("list") == 1
    assert cli.err == f"{airflow.url} does not accept the password of 'anna'; {HOW}\n"


def test_a_token_comes_from_a_file_or_the_environment(
    airflow: FakeAirflow, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    airflow.on("GET /jobs", Reply(200, []))
    monkeypatch.setenv("AIRFLOW_JOBS_TOKEN", "from-the-environment")
    assert cli("list") == 0
    (tmp_path / "token").write_text("from-a-file\n")
    assert cli("list", "--token-file", tmp_path / "token") == 0
    assert [r.headers["authorization"] for r in airflow.ledger.all()] == [
        "Bearer from-the-environment",
        "Bearer from-a-file",
    ]


def test_a_token_that_expires_meanwhile_is_renewed_and_one_that_was_given_is_not(
    airflow: FakeAirflow, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow.on("GET /auth/token", Reply(201, {"access_token": "old"}), Reply(201, {"access_token": "new"}))

    def by_token(request: Received) -> Reply:
        fresh = request.headers["authorization"] == "Bearer new"
        return Reply(200, {"message": "Paused"}) if fresh else refusal(401, "Token Expired")

    airflow.on("POST /jobs/a/pause", by_token)
    assert cli("pause", "a") == 0
    assert len(airflow.asked()) == 2

    monkeypatch.setenv("AIRFLOW_JOBS_TOKEN", "old")
    assert cli("pause", "a") == 1
    assert "does not accept the token (Token Expired)" in cli.err
    assert len(airflow.asked()) == 3


def test_a_base_url_with_a_path_and_ids_with_signs_of_urls(cli: Cli) -> None:
    class Below(FakeAirflow):
        def reply(self, request: Received) -> Reply:
            if request.path == "/airflow/auth/token":
                return Reply(201, {"access_token": "x"})
            return Reply(200, {"message": request.path})

    with Below() as server:
        for url in (f"{server.url}/airflow", f"{server.url}/airflow/"):
            assert cli("terminate", "a?b/c", "manual__1+00:00%#é", "--url", url) == 0
            assert cli.out.endswith(
                ": /airflow/jobs/api/v1/jobs/a%3Fb%2Fc/runs/manual__1%2B00%3A00%25%23%C3%A9/terminate\n"
            )
        assert cli("show", "..", "--url", server.url) == 1
        assert cli.err == "there is no job '..'\n"


@pytest.mark.parametrize(
    ("environment", "arguments", "said"),
    [
        ({}, ["--url", "localhost:8080"], "--url: Airflow's base URL should be one such as http://localhost:8080"),
        ({"URL": "ftp://x"}, [], "AIRFLOW_JOBS_URL: Airflow's base URL should be one such as http://localhost:8080"),
        ({"URL": "http://[::1"}, [], "AIRFLOW_JOBS_URL: Airflow's base URL should be"),
        ({"URL": "http://x:99999"}, [], "AIRFLOW_JOBS_URL: Airflow's base URL should be"),
        ({}, ["--url", "http://me:hunter2@x"], f"--url: no user and password in the URL; {HOW}"),
        ({}, ["--url", "http://x/?a=b"], "--url: Airflow's base URL has neither '?' nor '#'"),
        ({"USERNAME": "me"}, [], "AIRFLOW_JOBS_USERNAME is set and AIRFLOW_JOBS_PASSWORD is not"),
        ({"PASSWORD": "me"}, [], "AIRFLOW_JOBS_PASSWORD is set and AIRFLOW_JOBS_USERNAME is not"),
        ({"TOKEN": "two words"}, [], "AIRFLOW_JOBS_TOKEN holds no token"),
        ({}, ["--token-file", "/nowhere/token"], "--token-file: /nowhere/token cannot be read: No such file"),
        ({}, ["--token-file", os.devnull], f"{os.devnull} holds no token"),
    ],
)
def test_what_cannot_be_a_connection_is_a_usage_error(
    environment: dict[str, str], arguments: list[str], said: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("URL", "TOKEN", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"AIRFLOW_JOBS_{name}", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(f"AIRFLOW_JOBS_{name}", value)
    assert cli("list", *arguments) == 2
    assert cli.err.startswith(said)
    assert "hunter2" not in cli.err
    assert cli.err.count("\n") == 1
