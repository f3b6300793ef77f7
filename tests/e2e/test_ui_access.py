"""The Jobs tab's rights and its defences: who may see and do what, and what other sites can have a browser send."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from airflow_jobs_plugin.demo.stack import AirflowStack

from .conftest import BELOW, bearer, token
from .test_rest import DEFAULT, WORK, create, trigger

pytestmark = pytest.mark.e2e
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def job(rest: httpx.Client, airflow: AirflowStack) -> tuple[str, str]:
    """A job, and a run of it that has ended."""
    create(rest, "seen-by-all")
    run_id = trigger(rest, "seen-by-all")
    airflow.wait_for_run("seen-by-all", run_id)
    return "seen-by-all", run_id


def cookie(airflow: AirflowStack, role: str) -> dict[str, str]:
    return {"Cookie": f"_token={token(airflow, role=role)}"}


def own(strict: httpx.Client) -> dict[str, str]:
    """What a browser says of a form of these pages."""
    return {"Origin": f"http://{strict.base_url.host}:{strict.base_url.port}", "Sec-Fetch-Site": "same-origin", **FORM}


def pages_of(job_id: str, run_id: str) -> dict[str, str]:
    run = f"/jobs/ui/job/{job_id}/run/{run_id.replace('+', '%2B')}"
    return {
        "jobs": "/jobs/ui/",
        "job": f"/jobs/ui/job/{job_id}",
        "run": run,
        "live": f"{run}/live",
        "items": f"{run}/items",
        "item": f"{run}/item/0",
        "result": f"{run}/item/0/result",
        "results": f"{run}/results",
    }


CHANGES: dict[str, tuple[str, dict[str, str]]] = {
    "pause": ("/job/{job}/pause", {}),
    "resume": ("/job/{job}/resume", {}),
    "trigger": ("/job/{job}/trigger", {}),
    "terminate": ("/job/{job}/run/{run}/terminate", {}),
    "redeliver": ("/job/{job}/run/{run}/redeliver", {}),
    "append": ("/job/{job}/run/{run}/append", {"payload": '[{"api": "echo"}]'}),
    "edit": ("/job/{job}/edit", {"mode": "editor", "text": "payload: [{api: echo}]", "do": "save"}),
    "check": ("/job/{job}/edit/check", {"mode": "editor", "text": "payload: [{api: echo}]"}),
    "delete": ("/job/{job}/delete", {"sure": "yes"}),
    "create": ("/new", {"mode": "editor", "text": "{id: not-to-be, payload: [{api: 'm:f'}], target: {type: python}}",
                        "do": "save"}),
}  # fmt: skip
QUESTIONS = ("/new", "/job/{job}/edit", "/job/{job}/trigger", "/job/{job}/delete", "/job/{job}/run/{run}/append",
             "/job/{job}/run/{run}/terminate", "/job/{job}/run/{run}/redeliver")  # fmt: skip


def test_a_stranger_is_asked_to_log_in(job: tuple[str, str], strict: httpx.Client) -> None:
    for path in [*pages_of(*job).values(), "/jobs/ui/new", "/jobs/ui/dag/any", "/jobs/ui/no-such-page"]:
        answer = strict.get(path)
        assert answer.status_code == 401, path
        assert "You are not logged in" in answer.text
        assert f'href="{BELOW}/"' in answer.text
        assert job[1] not in answer.text
    for path, fields in CHANGES.values():
        path = f"/jobs/ui{path.format(job=job[0], run=job[1])}"
        assert strict.post(path, content=urlencode(fields), headers=own(strict)).status_code == 401


def test_whoever_may_only_look_sees_no_buttons_and_is_refused(
    job: tuple[str, str], strict: httpx.Client, airflow: AirflowStack, rest: httpx.Client
) -> None:
    viewer = cookie(airflow, "VIEWER")
    for name, path in pages_of(*job).items():
        answer = strict.get(path, headers=viewer)
        assert answer.status_code == 200, name
        # The one button is that of a search without scripts.
        buttons = [tag for tag in re.findall("<button[^>]*>", answer.text) if tag != '<button class="button">']
        assert buttons == [], name
        assert re.findall(r'[^ ]*/(?:trigger|delete|edit|append|terminate|redeliver|new)"', answer.text) == [], name
    before = rest.get(f"/jobs/{job[0]}").json()
    for name, (path, fields) in CHANGES.items():
        path = f"/jobs/ui{path.format(job=job[0], run=job[1])}"
        answer = strict.post(path, content=urlencode(fields), headers=viewer | own(strict))
        assert answer.status_code == 403, (name, answer.text)
        assert "text/html" in answer.headers["content-type"]
    for path in QUESTIONS:
        answer = strict.get(f"/jobs/ui{path.format(job=job[0], run=job[1])}", headers=viewer)
        assert answer.status_code == 403, path
        assert "You may not do this" in answer.text
    several = strict.post("/jobs/ui/bulk", content=f"job={job[0]}&do=pause", headers=viewer | own(strict))
    assert several.status_code == 409
    assert "you may not do this" in several.text
    assert rest.get(f"/jobs/{job[0]}").json() == before
    assert len(rest.get(f"/jobs/{job[0]}/runs").json()["jobRuns"]) == 1
    assert rest.get("/jobs/not-to-be").status_code == 404


def test_whoever_may_nothing_is_told_so(job: tuple[str, str], strict: httpx.Client, airflow: AirflowStack) -> None:
    nobody = {"Cookie": f"_token={token(airflow, role=None)}"}
    for name, path in pages_of(*job).items():
        answer = strict.get(path, headers=nobody)
        assert answer.status_code == 403, name
        assert "You may not do this" in answer.text


def test_a_connection_that_one_may_not_read_is_not_to_be_used(
    job: tuple[str, str], strict: httpx.Client, airflow: AirflowStack, rest: httpx.Client
) -> None:
    # Without a target it goes through the default connection.
    fields = {"mode": "editor", "text": json.dumps({"id": "borrowed", **DEFAULT}), "do": "save"}
    answer = strict.post("/jobs/ui/new", content=urlencode(fields), headers=cookie(airflow, "USER") | own(strict))
    assert answer.status_code == 403
    assert "which you may not read" in answer.text
    assert "borrowed" in answer.text, "what was written is still there"
    assert rest.get("/jobs/borrowed").status_code == 404


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": "OWN", "Sec-Fetch-Site": "same-site"},
        {"Origin": "OWN", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"},
        {"Referer": "OWN"},
    ],
    ids=str,
)
def test_what_another_site_has_a_browser_send_changes_nothing(
    sent: dict[str, str], job: tuple[str, str], strict: httpx.Client, airflow: AirflowStack, rest: httpx.Client
) -> None:
    admin = cookie(airflow, "ADMIN")
    headers = {name: value.replace("OWN", own(strict)["Origin"]) for name, value in sent.items()}
    for path, fields in CHANGES.values():
        path = f"/jobs/ui{path.format(job=job[0], run=job[1])}"
        answer = strict.post(path, content=urlencode(fields), headers={**FORM, **headers, **admin})
        assert answer.status_code == 403, path
    # Nor where every visitor is an admin, and Airflow gives a token to each request.
    for client in (strict, airflow.client.http):
        for path, content in ((f"/jobs/ui/job/{job[0]}/pause", ""), ("/jobs/ui/bulk", f"job={job[0]}&do=pause")):
            assert client.post(path, content=content, headers=FORM | headers | admin).status_code == 403
    assert rest.get(f"/jobs/{job[0]}").json()["state"] == "ACTIVE"


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "multipart/form-data; boundary=x", ""])
def test_only_the_pages_own_kind_of_form_is_read(
    kind: str, job: tuple[str, str], strict: httpx.Client, airflow: AirflowStack
) -> None:
    headers = cookie(airflow, "ADMIN") | own(strict) | {"Content-Type": kind}
    assert strict.post(f"/jobs/ui/job/{job[0]}/pause", content=b"a=b", headers=headers).status_code == 415


def test_reading_changes_nothing(job: tuple[str, str], strict: httpx.Client, airflow: AirflowStack) -> None:
    admin = cookie(airflow, "ADMIN")
    for path in ("/jobs/ui/job/{job}/pause", "/jobs/ui/job/{job}/resume", "/jobs/ui/bulk"):
        assert strict.get(path.format(job=job[0]), headers=admin).status_code == 405


def test_an_admin_of_an_airflow_below_a_path_gets_links_that_work(
    job: tuple[str, str], strict: httpx.Client, airflow: AirflowStack, rest: httpx.Client
) -> None:
    admin = cookie(airflow, "ADMIN")
    links: set[str] = set()
    for name in ("jobs", "job", "run", "item"):
        html = strict.get(pages_of(*job)[name], headers=admin).text
        links |= set(re.findall(r'(?:href|src|action|formaction|hx-get|hx-post)="([^"#][^"]*)"', html))
    assert {link for link in links if not link.startswith(f"{BELOW}/")} == set()
    root = str(strict.base_url).split(BELOW)[0]
    asked = {link.replace("&amp;", "&") for link in links if "/jobs/ui" in link}
    for link in asked - {f"{BELOW}/jobs/ui/bulk"}:
        if not link.endswith(("/pause", "/resume")):
            assert strict.get(root + link, headers=admin).status_code == 200, link
    views = strict.get("/api/v2/plugins", headers=bearer(airflow, role="ADMIN")).json()["plugins"]
    (found,) = [plugin["external_views"] for plugin in views if plugin["name"] == "airflow_jobs"]
    assert [(view["destination"], view["href"]) for view in found] == [
        ("nav", f"{BELOW}/jobs/ui/"),
        ("dag", f"{BELOW}/jobs/ui/dag/{{DAG_ID}}"),
        ("dag_run", f"{BELOW}/jobs/ui/dag/{{DAG_ID}}/run/{{RUN_ID}}"),
    ]
    assert strict.get(f"/jobs/ui/dag/{job[0]}", headers=admin).status_code == 307
    assert strict.get(root + found[0]["icon"]).headers["content-type"] == "image/svg+xml"
    answer = strict.post(f"/jobs/ui/job/{job[0]}/pause", headers=admin | own(strict))
    assert (answer.status_code, answer.headers["location"]) == (303, f"{BELOW}/jobs/ui/job/{job[0]}?done=paused")
    assert rest.post(f"/jobs/{job[0]}/resume").is_success
    log = airflow.api("GET", "eventLogs", params={"dag_id": job[0], "event": "job.pause"})["event_logs"]
    assert log[0]["owner"] == "somebody"


def test_pages_may_run_nothing_but_their_own_scripts(
    job: tuple[str, str], strict: httpx.Client, airflow: AirflowStack
) -> None:
    answers = [
        strict.get(path, headers=cookie(airflow, "VIEWER"))
        for path in [*pages_of(*job).values(), "/jobs/ui/job/none", "/jobs/ui/no-such-page"]
    ]
    for answer in [*answers, strict.get("/jobs/ui/")]:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'self'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_static_files_are_kept_by_browsers_and_need_no_login(strict: httpx.Client) -> None:
    html = strict.get("/jobs/ui/").text
    root = str(strict.base_url).split(BELOW)[0]
    found = re.findall(rf'(?:src|href)="({BELOW}/jobs/ui/static/[^"]+)"', html)
    assert len(found) == 5
    for path in found:
        answer = strict.get(root + path)
        assert answer.status_code == 200, path
        assert "immutable" in answer.headers["cache-control"]
    for path in ("/jobs/ui/static/x/app.py", "/jobs/ui/static/x/..%2fapp.py", "/jobs/ui/static/x/htmx.LICENSE"):
        assert strict.get(path).status_code == 404
    assert strict.get("/jobs/ui/static/old/app.css").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/jobs/ui/job/none", 404, "there is no job"),
        ("/jobs/ui/job/no%20id", 404, "is not a job id"),
        ("/jobs/ui/job/seen-by-all/run/none", 404, "has no run"),
        ("/jobs/ui/job/seen-by-all/run/a%00b", 404, "no such run"),
        ("/jobs/ui/nothing", 404, "There is nothing here"),
        ("/jobs/ui/job/seen-by-all/run/none/results?format=pdf", 422, "format"),
        ("/jobs/ui/?q=%00&state=odd&sort=odd&page=odd", 200, "Jobs"),
    ],
)
def test_what_goes_wrong_is_said_on_a_page(
    path: str, status: int, says: str, job: tuple[str, str], airflow: AirflowStack
) -> None:
    answer = airflow.client.request("GET", path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert says in answer.text


def send(airflow: AirflowStack, path: str, fields: Any) -> httpx.Response:
    headers = {**FORM, "Sec-Fetch-Site": "same-origin"}
    return airflow.client.request("POST", path, content=urlencode(fields, doseq=True), headers=headers)


def test_what_the_job_or_the_run_does_not_allow_is_refused_on_a_page(
    job: tuple[str, str], airflow: AirflowStack, rest: httpx.Client
) -> None:
    one = f"/jobs/ui/job/{job[0]}"
    run = f"{one}/run/{job[1].replace('+', '%2B')}"
    assert send(airflow, f"{one}/delete", {}).status_code == 422
    assert send(airflow, "/jobs/ui/bulk", {"do": "pause"}).status_code == 422
    assert send(airflow, "/jobs/ui/bulk", {"do": "explode", "job": job[0]}).status_code == 422
    partly = send(airflow, "/jobs/ui/bulk", {"do": "resume", "job": [job[0], "none"]})
    assert partly.status_code == 409
    assert "there is no job" in partly.text
    ended = send(airflow, f"{run}/append", {"payload": "[{api: echo}]"})
    assert (ended.status_code, "has ended" in ended.text) == (409, True)
    assert send(airflow, f"{run}/redeliver", {}).status_code == 409
    assert send(airflow, f"{run}/terminate", {}).headers["location"].endswith("done=had-ended")
    rest.post(f"/jobs/{job[0]}/pause").raise_for_status()
    paused = send(airflow, f"{one}/trigger", {"payload": "", "note": ""})
    assert (paused.status_code, "is paused" in paused.text) == (409, True)
    rest.post(f"/jobs/{job[0]}/resume").raise_for_status()
    taken = send(
        airflow, "/jobs/ui/new", {"mode": "editor", "do": "save", "text": f"{{id: {job[0]}, payload: [{{api: a}}]}}"}
    )
    assert (taken.status_code, "there is a DAG or job" in taken.text) == (409, True)


def test_where_every_visitor_is_an_admin_other_sites_are_none(
    job: tuple[str, str], airflow: AirflowStack, rest: httpx.Client
) -> None:
    """Of the REST API, too: what has no body needs no leave of the browser's."""
    for said in ({"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"}):
        answer = airflow.client.http.post(f"/jobs/api/v1/jobs/{job[0]}/pause", headers=said)
        assert answer.status_code == 403, said
    assert rest.get(f"/jobs/{job[0]}").json()["state"] == "ACTIVE"
    assert airflow.client.http.post(
        f"/jobs/api/v1/jobs/{job[0]}/resume", headers={"Origin": airflow.base_url}
    ).is_success


def test_a_form_that_is_sent_twice_starts_one_run(
    job: tuple[str, str], airflow: AirflowStack, rest: httpx.Client
) -> None:
    create(rest, "pressed-twice", **WORK)
    html = airflow.client.request("GET", "/jobs/ui/job/pressed-twice/trigger").text
    (key,) = re.findall(r'name="key" value="([^"]+)"', html)
    went = {send(airflow, "/jobs/ui/job/pressed-twice/trigger", {"key": key}).headers["location"] for _ in range(2)}
    assert len(went) == 1
    assert rest.get("/jobs/pressed-twice/runs").json()["totalCount"] == 1
