"""The REST API does what its OpenAPI document says, whatever it is sent, and shows the document as a page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.stack import AirflowStack

from .conftest import BELOW, Jobs, bearer

pytestmark = pytest.mark.e2e

#: How long requests are made up. A longer run draws anew each time; the default one always starts from one seed.
SECONDS = int(os.environ.get("AIRFLOW_JOBS_FUZZ_SECONDS", "45"))
SEED = os.environ.get("AIRFLOW_JOBS_FUZZ_SEED", "1" if "AIRFLOW_JOBS_FUZZ_SECONDS" not in os.environ else "")

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "missing_required_header", "unsupported_method",
    "allow_header_conformance", "use_after_free", "ensure_resource_availability", "ignored_auth",
)  # fmt: skip
# Not among them:
# positive_data_acceptance: what depends on two fields is checked and not in the schema, such as an offset that is less
#   than its interval; so is what only this Airflow knows: its connections, its [core] max_map_length.
# object_level_authorization: compares two users, and has one; rights are for test_rest.py.
# max_response_time: on a machine that is shared with other tests.

CONFIG = """
hooks = "{folder}/hooks.py"
[generation]
database = "none"
[checks.negative_data_rejection]
# By default without 412, which a made-up If-Match gets; and with 5xx, which is never an answer to wrong data.
expected-statuses = [400, 401, 403, 404, 405, 409, 411, 412, 413, 415, 422]
[dictionaries.jobs]
values = ["fuzzed", "fuzzed", "fuzzed", "stored-1", "stored-2", "stored-3"]
[dictionaries.runs]
values = {runs}
[dictionaries.indexes]
values = [0, 1]
[dictionaries.etags]
values = ["*"]
[parameters]
"path.jobId" = {{ dictionary = "jobs", probability = 0.9 }}
"path.jobRunId" = {{ dictionary = "runs", probability = 0.9 }}
"path.index" = {{ dictionary = "indexes", probability = 0.7 }}
"header.If-Match" = {{ dictionary = "etags", probability = 0.7 }}
"""

HOOKS = """
from urllib.parse import unquote

import schemathesis

OPEN = {open!r}


@schemathesis.hook
def filter_case(context, case):
    parameters = case.path_parameters or {}
    if case.path.endswith("/terminate") and unquote(str(parameters.get("jobRunId"))) == OPEN:
        return False
    # Starlette's mounts match no path with a line feed: Airflow answers before the plugin is asked.
    return not any("\\n" in unquote(str(value)) for value in (case.path_parameters or {}).values())
"""


@pytest.fixture(scope="module")
def admin(strict: httpx.Client, airflow: AirflowStack) -> Iterator[httpx.Client]:
    """An admin, at the API server that asks who one is and is below a path."""
    headers = bearer(airflow, role="ADMIN", exp=datetime.now(UTC) + timedelta(seconds=SECONDS + 1800))
    with httpx.Client(base_url=f"{strict.base_url}jobs", headers=headers, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def document(admin: httpx.Client) -> dict[str, Any]:
    response = admin.get("/openapi.json")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


HEALTH = "GET /api/v1/health"


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(inner)


def test_every_operation_says_what_it_takes_and_answers(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": f"{BELOW}/jobs"}]
    assert document["security"] == [{"token": []}, {"apiKey": []}]
    names = []
    for name, operation in operations(document):
        names.append(operation["operationId"])
        assert operation["summary"], name
        assert operation["description"].startswith(operation["summary"]), name
        assert operation["tags"], name
        for parameter in operation.get("parameters", []):
            assert parameter["description"], (name, parameter["name"])
        if "requestBody" in operation:
            (content,) = operation["requestBody"]["content"].values()
            assert content["examples"], name
            assert all(example["summary"] for example in content["examples"].values()), name
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)
            if status >= "300" and (name, status) != (HEALTH, "503"):  # which says what is wrong
                assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
        statuses = set(operation["responses"])
        assert {"401", "403", "422"} <= statuses, name
        assert ("{jobId}" in name) <= ("404" in statuses), name
        assert ("requestBody" in operation) <= ({"400", "415"} <= statuses), name
    assert len(names) == len(set(names))


def test_the_schemas_are_schemas_and_the_examples_keep_to_them(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for part in parts(document):
        if isinstance(reference := part.get("$ref"), str):
            assert reference.removeprefix("#/components/schemas/") in schemas
    used = json.dumps(document)
    for name in schemas:
        assert f'"#/components/schemas/{name}"' in used, f"{name} is not used"

    def check(schema: dict[str, Any], value: Any) -> None:
        jsonschema.Draft202012Validator({**schema, "components": {"schemas": schemas}}).validate(value)

    for _, operation in operations(document):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in (content for body in bodies for content in body.get("content", {}).values()):
            examples = [example["value"] for example in content.get("examples", {}).values()]
            if "example" in content:
                examples.append(content["example"])
            for example in examples:
                check(content["schema"], example)
        for parameter in operation.get("parameters", []):
            for example in parameter["schema"].get("examples", []):
                check(parameter["schema"], example)
    job = {"$ref": "#/components/schemas/NewJob"}
    for wrong in (
        {"id": "x"},
        {"payload": [{"apiName": "a"}]},
        {"id": "x", "payload": [{"apiName": "a"}], "sinks": {}},
        {"id": "x", "payload": [{"apiName": "a"}], "configuration": {"maxConcurrentRequests": 0}},
        {"id": "x", "payload": [{"apiName": "a"}], "schedule": {"calendars": [{"hour": 24}]}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            check(job, wrong)


@pytest.fixture
def seeded(admin: httpx.Client, airflow: AirflowStack, jobs: Jobs, receiver: WebhookReceiver) -> Iterator[list[str]]:
    """A job of a file that has run and some over REST, so that what is drawn finds something; ids of runs."""
    add = {"apiName": "acme_jobs:add", "parameters": {"a": 1, "b": 2}}
    definition: dict[str, Any] = {
        "payload": [add, {"apiName": "acme_jobs:secret_agent", "retry": {"maximumAttempts": 1}}],
        "configuration": {"toleratedFailurePercentage": 50, "requestTimeout": 1.5},
        "schedule": {"calendars": [{"year": 2099, "dayOfWeek": ["MON", 4]}], "startAt": "2098-01-01"},
        "target": {"type": "python"},
        "sink": {"type": "webhook", "url": f"{receiver.url}/fuzzed", "headers": {"X-Key": "hidden"}},
        "proxy": {"version": "v1", "url": "http://proxy.example:3128"},
        "auth_session": {"id": "shop"},
        "notifications": [{"type": "webhook", "url": "https://example.com/"}],
    }
    before = {job["id"] for job in admin.get("/api/v1/jobs").json()}
    jobs.write("fuzzed", **definition)
    # More than one, so that a job that can be deleted is drawn too, however few requests the machine has time for.
    for number in (1, 2, 3):
        assert admin.post("/api/v1/jobs", json={"id": f"stored-{number}", **definition}).status_code == 201
    runs = []
    for note in ("a run that ended", "a run that was terminated"):
        run_id = admin.post("/api/v1/jobs/fuzzed/trigger", json={"note": note}).json()["jobRunId"]
        runs.append(run_id)
        if len(runs) == 1:
            assert airflow.wait_for_run("fuzzed", run_id)["state"] == "success"
        else:
            admin.post(f"/api/v1/jobs/fuzzed/runs/{run_id}/terminate", json={"reason": "enough"})
    # What few of the requests that are made up come to, on a machine that has time for few.
    assert admin.put("/api/v1/jobs/stored-1", json={**definition, "proxy": None}).status_code == 200
    assert admin.post("/api/v1/jobs", json={"id": "stored-4", **definition}).status_code == 201
    assert admin.delete("/api/v1/jobs/stored-4").status_code == 204
    # One stays in progress, so that items can be appended: made-up requests end any but this one.
    seconds = SECONDS * 2 + 120
    item = {"apiName": "acme_jobs:wait", "parameters": {"seconds": seconds}, "requestTimeout": seconds}
    wait = {"payload": [item], "note": "in progress"}
    runs.append(admin.post("/api/v1/jobs/fuzzed/trigger", json=wait).json()["jobRunId"])
    append = f"/api/v1/jobs/fuzzed/runs/{runs[-1]}/payloads"
    airflow.client.wait_until("room", lambda: admin.post(append, json={"payload": [add]}).status_code == 200, 60)
    yield runs
    # What was made up is not to keep the workers busy while other tests wait.
    admin.post("/api/v1/jobs/fuzzed/pause")
    for job in admin.get("/api/v1/jobs").json():
        if job["id"] not in before and job["source"] == "API":
            assert admin.delete(f"/api/v1/jobs/{job['id']}", params={"force": True}).status_code == 204
    page, listed = 1, [{}]
    while listed:
        listed = admin.get("/api/v1/jobs/fuzzed/runs", params={"pageSize": 1000, "pageNumber": page}).json()["jobRuns"]
        for run in listed:
            if run["end_time"] is None:
                admin.post(f"/api/v1/jobs/fuzzed/runs/{run['id']}/terminate")
        page += 1


def test_whatever_is_sent_the_answer_is_as_documented(
    seeded: list[str], admin: httpx.Client, document: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(CONFIG.format(folder=tmp_path, runs=json.dumps([*seeded, *[seeded[-1]] * 2])))
    (tmp_path / "hooks.py").write_text(HOOKS.replace("{open!r}", repr(seeded[-1])))
    report = tmp_path / "report.ndjson"
    command = [
        str(Path(sys.executable).with_name("st")), "--config-file", str(tmp_path / "config.toml"),
        "run", str(admin.base_url) + "openapi.json", "--header", f"Authorization: {admin.headers['Authorization']}",
        # One worker: CPython 3.11 compiles in one thread at a time only, and says so with a RuntimeError.
        "--workers", "1", "--max-time", str(SECONDS), "--checks", ",".join(CHECKS), "--continue-on-failure",
        "--report", "ndjson", "--report-ndjson-path", str(report), "--no-color", "--warnings", "off",
        *(["--seed", SEED] if SEED else []),
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS * 2 + 120, check=False
    )
    assert ended.returncode == 0, ended.stdout[-30_000:] + ended.stderr[-5_000:]

    # Whether it was a test at all: every operation did what it is for (some above), every check looked at something.
    seen = (
        "PUT /api/v1/jobs/{jobId}",
        "DELETE /api/v1/jobs/{jobId}",
        "POST /api/v1/jobs/{jobId}/runs/{jobRunId}/payloads",
    )
    answers: dict[str, Counter[int]] = {
        name: Counter([200] if name in seen else []) for name, _ in operations(document)
    }
    checked: set[str] = set()
    for line in report.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for case_id, interaction in recorder.get("interactions", {}).items():
            case = recorder["cases"][case_id]["value"]
            if (name := f"{case['method']} {case['path']}") in answers:
                answers[name][(interaction["response"] or {"status_code": 0})["status_code"]] += 1
        checked |= {check["name"] for checks in recorder.get("checks", {}).values() for check in checks}
    assert not {
        name: found
        for name, found in answers.items()
        if not sum(n for status, n in found.items() if 200 <= status < 300)
    }
    assert checked == set(CHECKS)


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/", 404, None),
        ("GET", "/nowhere", 404, None),
        ("POST", "/api/v1", 404, None),
        ("GET", "/api/v1/jobs/x/y", 404, None),
        ("GET", "/api/v1/workspace/w/projects/p", 404, None),
        ("GET", "/docs/oauth2-redirect", 404, None),
        ("PATCH", "/api/v1/jobs", 405, "GET, POST"),
        ("OPTIONS", "/api/v1/jobs", 405, "GET, POST"),
        ("HEAD", "/api/v1/jobs", 405, "GET, POST"),
        ("GET", "/api/v1/jobs/x/pause", 405, "POST"),
        ("POST", "/api/v1/jobs/x", 405, "DELETE, GET, PUT"),
        ("DELETE", "/api/v1/jobs/validate/runs", 405, "GET"),
        ("PATCH", "/api/v1/workspace/w/projects/p/jobs/x", 405, "DELETE, GET, PUT"),
        ("TRACE", "/openapi.json", 405, "GET"),
        ("POST", "/docs", 405, "GET"),
    ],
)
def test_what_is_not_there_is_answered_like_every_other_error(
    method: str, path: str, status: int, allowed: str | None, admin: httpx.Client
) -> None:
    response = admin.request(method, path)
    assert (response.status_code, response.headers.get("Allow")) == (status, allowed), response.text
    if method != "HEAD":
        body = response.json()
        assert set(body) == {"code", "category", "message", "details", "correlationId", "retirable"}
        assert body["code"] == {404: "not-found", 405: "method-not-allowed"}[status]
    # Who is nobody does not learn what there is.
    nobody = httpx.request(method, f"{str(admin.base_url).rstrip('/')}{path}", trust_env=False)
    assert nobody.status_code == 401
    assert nobody.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {"Content-Type": "application/json"}, 400),
        (b'"\xff"', {"Content-Type": "application/json"}, 400),
        (b"[" * 100_000, {"Content-Type": "application/json"}, 400),
        (b"1" * 10_000, {"Content-Type": "application/json"}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {}, 415),
        (b"[]", {"Content-Type": "application/json"}, 422),
        (b"", {"Content-Type": "application/json"}, 422),
        (b'{"id": "x", "payload": [{"api": "a"}], "\\ud800": 1}', {"Content-Type": "application/json"}, 422),
        (
            b'{"id": "x", "payload": [{"api": "a", "parameters": {"a": NaN}}]}',
            {"Content-Type": "application/json"},
            422,
        ),
        (b'{"id": "x", "payload": [{"api": "a", "parameters": {"a": "\\u0000"}}]}', {"Content-Type": "a/b+json"}, 422),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bodies_that_cannot_be_read(content: bytes, headers: dict[str, str], status: int, admin: httpx.Client) -> None:
    response = admin.post("/api/v1/jobs", content=content, headers=headers)
    assert response.status_code == status, response.text
    assert response.json()["category"] == "validation"
    chunked = admin.post("/api/v1/jobs", content=iter([content]), headers=headers)
    assert (chunked.status_code, chunked.json()["code"]) == (411, "length-required")


@pytest.mark.parametrize("text", ["%00", "a%00b"])
def test_a_nul_character_is_no_error_of_the_server(text: str, admin: httpx.Client) -> None:
    for path in (
        f"/api/v1/jobs?search={text}",
        f"/api/v1/jobs/{text}",
        f"/api/v1/jobs/x/runs/{text}",
        f"/api/v1/jobs/x/runs/y/payloads?search={text}",
    ):
        assert admin.get(path).status_code == 422, path
    nul = {"note": "\0"}
    assert admin.post("/api/v1/jobs/x/trigger", json=nul).status_code == 422


@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59"])
def test_the_ends_of_time_are_no_error_of_the_server(instant: str, admin: httpx.Client) -> None:
    schedule = {"calendars": [{"hour": 3}], "timezone": "America/Los_Angeles"}
    refused = admin.post("/api/v1/schedules/preview", json={"schedule": schedule, "after": instant})
    assert (refused.status_code, refused.json()["details"][0]["path"]) == (422, "after")
    for name in ("startAt", "endAt"):
        report = admin.post(
            "/api/v1/jobs/validate",
            json={"id": "x", "payload": [{"apiName": "a"}], "schedule": {**schedule, name: instant}},
        ).json()
        assert (report["valid"], [error["path"] for error in report["errors"]]) == (False, ["schedule"])


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif tag == "a" and name == "href":
                self.links.append(value or "")
            elif name in ("src", "href", "srcset", "data", "action", "poster", "background") or name.startswith("on"):
                self.loads.append(f"{tag} {name}={value}")


def test_the_page_shows_all_of_it_and_loads_nothing(admin: httpx.Client, document: dict[str, Any]) -> None:
    response = admin.get("/docs")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    page = _Page()
    page.feed(response.text)
    page.close()
    assert page.loads == []
    assert not page.tags.keys() & {"script", "link", "iframe", "img", "object", "embed", "base", "form"}
    assert re.findall(r"@import|url\(", response.text) == []
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= set(page.ids)
    assert [link for link in page.links if not link.startswith("#")] == ["openapi.json"]
    for name, operation in operations(document):
        assert operation["operationId"] in page.ids
        assert name.split()[1] in response.text
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= set(page.ids)
    assert "prefers-color-scheme: dark" in response.text
