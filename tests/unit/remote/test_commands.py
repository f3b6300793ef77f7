"""Every command: what it asks for, what it prints for people and for programs, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from airflow_jobs_plugin.demo.server import Received, Reply

from .conftest import Cli, FakeAirflow, item_of, job_of, query, refusal, run_of

RUN = "/jobs/prices/runs/manual__1"
PAYLOAD = "payload:\n  - api: list-products\n"


def paged(entries: Sequence[Any], key: str | None) -> Callable[[Received], Reply]:
    """Answers with the page that was asked for, as the REST API does."""

    def page(request: Received) -> Reply:
        asked = query(request)
        size, number = int(asked["pageSize"]), int(asked["pageNumber"])
        part = list(entries[size * (number - 1) : size * number])
        if key is None:
            return Reply(200, part, {"X-Total-Count": str(len(entries))})
        return Reply(200, {key: part, "totalCount": len(entries)})

    return page


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.job.yaml"
    path.write_text(PAYLOAD)
    return path


# -- create and update ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "job_id"), [((), "prices"), (("--id", "other"), "other")])
def test_create_sends_the_definition_under_its_id(
    airflow: FakeAirflow, cli: Cli, file: Path, options: tuple[str, ...], job_id: str
) -> None:
    airflow.on("POST /jobs", Reply(201, {"id": job_id, "message": "created", "ready": True}))
    assert cli("create", file, *options) == 0
    assert (cli.out, cli.err) == (f"Created {job_id}.\n", "")
    (request,) = airflow.asked()
    assert request.body == {"payload": [{"api": "list-products"}], "id": job_id}
    assert request.headers["content-type"] == "application/json"


def test_create_with_json_prints_the_answer(airflow: FakeAirflow, cli: Cli, file: Path) -> None:
    answer = {"id": "prices", "message": "created", "ready": False}
    airflow.on("POST /jobs", Reply(201, answer))
    assert cli("create", "--json", file) == 0
    assert json.loads(cli.out) == answer
    assert cli.err == ""


def test_create_says_when_the_job_cannot_be_triggered_yet(airflow: FakeAirflow, cli: Cli, file: Path) -> None:
    airflow.on("POST /jobs", Reply(201, {"id": "prices", "message": "created", "ready": False}))
    assert cli("create", file) == 0
    assert cli.out == "Created prices.\n"
    assert cli.err == "Airflow does not know it yet; that takes up to a minute.\n"


def test_create_does_not_replace_a_job(airflow: FakeAirflow, cli: Cli, file: Path) -> None:
    airflow.on("POST /jobs", refusal(409, "there is a DAG or job 'prices' already; update it"))
    assert cli("create", file) == 1
    assert (cli.out, cli.err) == ("", "there is a DAG or job 'prices' already; update it\n")


@pytest.mark.parametrize(("etag", "sent"), [('"5f8a"', '"5f8a"'), ("5f8a", '"5f8a"'), ("*", "*")])
def test_update_replaces_the_job_if_it_is_still_that_one(
    airflow: FakeAirflow, cli: Cli, file: Path, etag: str, sent: str
) -> None:
    answer = {"id": "prices", "message": "updated job successfully", "ready": True}
    airflow.on("PUT /jobs/prices", Reply(200, answer), refusal(412, "'prices' is no longer what If-Match names"))
    assert cli("update", file, "--if-match", etag) == 0
    assert cli.out == "Updated prices; runs that have started keep what they started with.\n"
    (request,) = airflow.asked()
    assert request.headers["if-match"] == sent
    assert request.body == {"payload": [{"api": "list-products"}], "id": "prices"}
    assert cli("update", file, "--if-match", etag) == 1
    assert cli.err == "'prices' is no longer what If-Match names\n"


def test_update_without_if_match_asks_for_nothing_of_the_kind(airflow: FakeAirflow, cli: Cli, file: Path) -> None:
    answer = {"id": "prices", "message": "updated job successfully", "ready": True}
    airflow.on("PUT /jobs/prices", Reply(200, answer))
    assert cli("update", file, "--json") == 0
    assert json.loads(cli.out) == answer
    assert "if-match" not in airflow.asked()[0].headers


# -- list -----------------------------------------------------------------------------------------------------------


def test_list_is_a_table_of_all_pages(airflow: FakeAirflow, cli: Cli) -> None:
    airflow.on("GET /jobs", paged([job_of(f"job-{n:03}") for n in range(205)], None))
    assert cli("list") == 0
    head, first, *_, last = cli.out.splitlines()
    assert head == "JOB      STATE   SOURCE  ITEMS  NEXT RUN              LAST RUN  SCHEDULE"
    assert first == "job-000  ACTIVE  API         1  2026-11-24T02:00:00Z            at 02:00, Europe/Berlin"
    assert last.startswith("job-204 ")
    assert len(cli.out.splitlines()) == 206
    asked = [query(request) for request in airflow.asked()]
    assert asked == [{"pageSize": "100", "pageNumber": str(n)} for n in (1, 2, 3)]


def test_list_filters(airflow: FakeAirflow, cli: Cli) -> None:
    airflow.on("GET /jobs", Reply(200, []))
    assert cli("list", "--search", "a&b=ü", "--state", "paused", "--source", "code") == 0
    assert (cli.out, cli.err) == ("", "No jobs.\n")
    filters = {"search": "a&b=ü", "state": "PAUSED", "source": "CODE"}
    assert query(airflow.asked()[0]) == {**filters, "pageSize": "100", "pageNumber": "1"}


@pytest.mark.parametrize("count", [0, 1, 100, 101])
def test_list_with_json_is_one_array(airflow: FakeAirflow, cli: Cli, count: int) -> None:
    jobs = [job_of(f"job-{n}") for n in range(count)]
    airflow.on("GET /jobs", paged(jobs, None))
    assert cli("list", "--json") == 0
    assert json.loads(cli.out) == jobs
    assert cli.err == ""
    assert len(airflow.asked()) == (2 if count > 100 else 1)


def test_a_list_that_shrinks_between_two_pages_ends(airflow: FakeAirflow, cli: Cli) -> None:
    first = Reply(200, [job_of(f"job-{n}") for n in range(100)], {"X-Total-Count": "101"})
    airflow.on("GET /jobs", first, Reply(200, [], {"X-Total-Count": "100"}))
    assert cli("list", "--json") == 0
    assert len(json.loads(cli.out)) == 100


# -- show -----------------------------------------------------------------------------------------------------------


def test_show_describes_a_job(airflow: FakeAirflow, cli: Cli) -> None:
    sink = {"type": "webhook", "url": "https://example.com/x", "secret": "***"}
    airflow.on("GET /jobs/prices", Reply(200, job_of(sink=sink, last_run_time="2026-11-23T02:00:00.4Z")))
    assert cli("show", "prices") == 0
    assert cli.out.splitlines() == [
        "prices: ACTIVE",
        "source: API, created over REST",
        "schedule: at 02:00, Europe/Berlin",
        "next run: 2026-11-24T02:00:00Z",
        "last run: 2026-11-23T02:00:00Z",
        "target: type http, connId prices_api",
        "sink: webhook https://example.com/x",
        "items: 1, at most 5 at the same time, 3 attempts each",
        'etag: "5f8a"',
        "#  API            PARAMETERS",
        '0  list-products  {"page": 1}',
    ]
    assert cli.err == ""


def test_show_says_what_a_job_has_not(airflow: FakeAirflow, cli: Cli) -> None:
    items = [{"apiName": "x", "parameters": {"n": n, "text": "y" * 100}} for n in range(23)]
    airflow.on("GET /jobs/prices", Reply(200, job_of(ready=False, next_run_time=None, payload=items, state="PAUSED")))
    assert cli("show", "prices") == 0
    lines = cli.out.splitlines()
    assert lines[0] == "prices: PAUSED, not known to Airflow yet"
    assert "sink: none" in lines
    assert not [line for line in lines if "run:" in line]
    assert lines[-1].startswith('19  x    {"n": 19')
    assert lines[-1].endswith("y…")
    assert cli.err == "… and 3 more; --definition shows all\n"


def test_show_with_json_is_the_whole_job(airflow: FakeAirflow, cli: Cli) -> None:
    airflow.on("GET /jobs/prices", Reply(200, job_of()))
    assert cli("show", "prices", "--json") == 0
    assert json.loads(cli.out) == job_of()


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_the_definition_that_show_prints_is_a_job_file_for_update(
    airflow: FakeAirflow, cli: Cli, tmp_path: Path, option: tuple[str, ...]
) -> None:
    sink = {"type": "webhook", "url": "https://example.com/x", "secret": "***"}
    airflow.on("GET /jobs/prices", Reply(200, job_of(sink=sink)))
    airflow.on("PUT /jobs/prices", Reply(200, {"id": "prices", "message": "updated job successfully", "ready": True}))
    assert cli("show", "prices", "--definition", *option) == 0
    definition = json.loads(cli.out)
    assert list(definition) == ["id", "payload", "configuration", "sink", "target"]
    (tmp_path / "anything.json").write_text(cli.out)
    assert cli("update", tmp_path / "anything.json") == 0
    assert airflow.asked("PUT")[0].body == definition


# -- pause, resume, delete ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "said"), [("pause", "Paused"), ("resume", "Resumed")])
def test_one_job_that_cannot_be_paused_keeps_no_other_from_it(
    airflow: FakeAirflow, cli: Cli, command: str, said: str
) -> None:
    for job in ("a", "c"):
        airflow.on(f"POST /jobs/{job}/{command}", Reply(200, {"message": said}))
    airflow.on(f"POST /jobs/b/{command}", refusal(404, "there is no job 'b'"))
    assert cli(command, "a", "b", "c") == 1
    assert cli.out == f"a: {said}\nc: {said}\n"
    assert cli.err == "b: there is no job 'b'\n"
    assert [request.raw for request in airflow.asked()] == [b"", b"", b""]

    assert cli(command, "a", "b", "c", "--json") == 1
    assert [json.loads(line) for line in cli.out.splitlines()] == [
        {"id": "a", "message": said},
        {"id": "c", "message": said},
    ]
    assert cli(command, "a", "c") == 0


def test_where_the_token_is_refused_the_other_jobs_are_not_tried(
    airflow: FakeAirflow, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_JOBS_TOKEN", "old")
    airflow.on("POST /jobs/a/pause", refusal(401, "Token Expired"))
    assert cli("pause", "a", "b", "c") == 1
    assert len(airflow.asked()) == 1
    assert cli.err.count("\n") == 1


@pytest.mark.parametrize(("runs", "said"), [("0", "0 runs"), ("1", "1 run"), ("7", "7 runs")])
def test_delete_says_what_went_with_the_job(airflow: FakeAirflow, cli: Cli, runs: str, said: str) -> None:
    airflow.on("DELETE /jobs/prices", Reply(204, None, {"X-Deleted-Runs": runs}))
    assert cli("delete", "prices") == 0
    assert cli.out == f"Deleted prices and the history of its {said}.\n"
    assert cli("delete", "prices", "--json", "--force", "--if-match", "5f8a") == 0
    assert json.loads(cli.out) == {"id": "prices", "message": "deleted", "deletedRuns": int(runs)}
    plain, forced = airflow.asked()
    assert (query(plain), query(forced)) == ({}, {"force": "true"})
    assert forced.headers["if-match"] == '"5f8a"'


def test_delete_is_refused_while_runs_are_active(airflow: FakeAirflow, cli: Cli) -> None:
    airflow.on("DELETE /jobs/prices", refusal(409, "2 runs of 'prices' have not ended; wait for them"))
    assert cli("delete", "prices") == 1
    assert (cli.out, cli.err) == ("", "2 runs of 'prices' have not ended; wait for them\n")


# -- trigger --------------------------------------------------------------------------------------------------------


def test_trigger_starts_a_run(airflow: FakeAirflow, cli: Cli) -> None:
    answer = {"jobRunId": "manual__1", "message": "Triggered"}
    airflow.on("POST /jobs/prices/trigger", Reply(200, answer))
    assert cli("trigger", "prices") == 0
    assert (cli.out, cli.err) == ("Triggered: manual__1\n", "")
    (request,) = airflow.asked()
    assert request.body == {}
    assert "idempotency-key" not in request.headers
    assert cli("trigger", "prices", "--json") == 0
    assert json.loads(cli.out) == answer


def test_trigger_brings_payload_note_and_key(airflow: FakeAirflow, cli: Cli, tmp_path: Path) -> None:
    again = "Triggered before with this Idempotency-Key"
    airflow.on("POST /jobs/prices/trigger", Reply(200, {"jobRunId": "manual__1", "message": again}))
    items = tmp_path / "items.yaml"
    items.write_text("- api: list-products\n  parameters: {page: 7}\n")
    assert cli("trigger", "prices", "--payload", items, "--note", "wieder ✓", "--idempotency-key", "order-17") == 0
    assert cli.out == f"{again}: manual__1\n"
    (request,) = airflow.asked()
    assert request.headers["idempotency-key"] == "order-17"
    assert request.body == {"payload": [{"api": "list-products", "parameters": {"page": 7}}], "note": "wieder ✓"}


def test_trigger_of_a_paused_job_fails_with_the_reason(airflow: FakeAirflow, cli: Cli) -> None:
    airflow.on("POST /jobs/prices/trigger", refusal(409, "the job 'prices' is paused; resume it first"))
    for options in ((), ("--watch",), ("--json",), ("--watch", "--json")):
        assert cli("trigger", "prices", *options) == 1
        assert (cli.out, cli.err) == ("", "the job 'prices' is paused; resume it first\n")


# -- runs and items -------------------------------------------------------------------------------------------------


def test_runs_is_a_table_with_the_reason_of_each(airflow: FakeAirflow, cli: Cli) -> None:
    found = [
        run_of("PENDING", pending=2, succeeded=1, failed=1),
        {**run_of("PENDING"), "id": "manual__0", "note": "by hand"},
        {**run_of("TERMINATED", canceled=3), "note": "x", "reason": {"message": "terminated by anna"}},
        {**run_of("FAILURE", succeeded=2), "error": {"message": "the results were not delivered"}},
    ]
    airflow.on("GET /jobs/prices/runs", paged(found, "jobRuns"))
    assert cli("runs", "prices") == 0
    assert cli.out.splitlines() == [
        "RUN        STATUS      TYPE    STARTED                TOOK  ENDED  FAILED  NOTE",
        "manual__1  PENDING     MANUAL  2026-11-23T09:00:00Z           2/4       1",
        "manual__0  PENDING     MANUAL  2026-11-23T09:00:00Z           0/?       0  by hand",
        "manual__1  TERMINATED  MANUAL  2026-11-23T09:00:00Z  1m04s    3/3       0  terminated by anna",
        "manual__1  FAILURE     MANUAL  2026-11-23T09:00:00Z  1m04s    2/2       0  the results were not delivered",
    ]
    assert query(airflow.asked()[0]) == {"pageSize": "20", "pageNumber": "1"}
    assert cli.err == ""


@pytest.mark.parametrize(
    ("limit", "asked", "shown"),
    [(1, [("1", "1")], 1), (100, [("100", "1")], 100), (150, [("100", "1"), ("100", "2")], 150)],
)
def test_runs_are_as_many_as_are_wanted(
    airflow: FakeAirflow, cli: Cli, limit: int, asked: list[tuple[str, str]], shown: int
) -> None:
    found = [{**run_of("SUCCESS", succeeded=1), "id": f"manual__{n}"} for n in range(180)]
    airflow.on("GET /jobs/prices/runs", paged(found, "jobRuns"))
    assert cli("runs", "prices", "--limit", limit) == 0
    assert len(cli.out.splitlines()) == shown + 1
    assert cli.err == f"{shown} of 180 runs\n"
    assert [(query(r)["pageSize"], query(r)["pageNumber"]) for r in airflow.asked()] == asked
    assert cli("runs", "prices", "--limit", limit, "--json") == 0
    assert json.loads(cli.out) == {"jobRuns": found[:limit], "totalCount": 180}


def test_a_job_without_runs(airflow: FakeAirflow, cli: Cli) -> None:
    airflow.on("GET /jobs/prices/runs", Reply(200, {"jobRuns": [], "totalCount": 0}))
    assert cli("runs", "prices") == 0
    assert (cli.out, cli.err) == ("", "No runs.\n")
    assert cli("runs", "prices", "--json") == 0
    assert json.loads(cli.out) == {"jobRuns": [], "totalCount": 0}
    for command in ("watch", "items", "results", "terminate"):
        assert cli(command, "prices", "latest") == 1
        assert (cli.out, cli.err) == ("", "the job 'prices' has no runs\n")


def test_items_are_a_table_with_results_and_errors(airflow: FakeAirflow, cli: Cli) -> None:
    error = {"code": "http-error", "message": "503: no\nluck", "statusCode": 503}
    found = [
        item_of(0),
        item_of(1, "FAILED", parent=0, attempts=3, duration=61.04, error=error),
        item_of(2, "PENDING", attempts=0, duration=None),
        item_of(3, result=None),
        item_of(4, parameters={"text": "ü" * 50}, result="y" * 70),
    ]
    airflow.on(f"GET {RUN}/payloads", paged(found, "payloads"))
    assert cli("items", "prices", "manual__1") == 0
    assert cli.out.splitlines()[2].split()[:3] == ["1", "0", "list-products"]
    # Without the column of parents, of which one item alone has one.
    rows = [line.replace("1       0", "1").split(maxsplit=3) for line in cli.out.splitlines()]
    assert cli.out.splitlines()[0].split() == [
        "#", "PARENT", "API", "PARAMETERS", "STATUS", "ATTEMPTS", "TOOK", "RESULT", "OR", "ERROR",
    ]  # fmt: skip
    assert rows[1][3].split(maxsplit=4)[1:] == ["SUCCEEDED", "1/3", "0.2s", '{"n": 0}']
    assert rows[2][3].split(maxsplit=4)[1:] == ["FAILED", "3/3", "61.0s", "http-error: 503: no luck"]
    assert rows[3][3].split()[1:] == ["PENDING", "0/3"]
    assert rows[4][3].endswith("null"), "a result that is null is a result"
    assert f'{{"text": "{"ü" * 29}…' in cli.out
    assert cli.out.endswith(f"{'y' * 59}…\n")


def test_items_of_all_pages_with_filters(airflow: FakeAirflow, cli: Cli) -> None:
    found = [item_of(n, "FAILED") for n in range(250)]
    airflow.on(f"GET {RUN}/payloads", paged(found, "payloads"))
    assert cli("items", "prices", "manual__1", "--status", "failed", "--search", "page", "--json") == 0
    assert json.loads(cli.out) == {"payloads": found, "totalCount": 250}
    filters = {"status": "FAILED", "search": "page", "pageSize": "100"}
    assert [query(r) for r in airflow.asked()] == [{**filters, "pageNumber": str(n)} for n in (1, 2, 3)]


def test_no_items(airflow: FakeAirflow, cli: Cli) -> None:
    airflow.on(f"GET {RUN}/payloads", Reply(200, {"payloads": [], "totalCount": 0}))
    assert cli("items", "prices", "manual__1") == 0
    assert (cli.out, cli.err) == ("", "No items.\n")
    assert cli("items", "prices", "manual__1", "--json") == 0
    assert json.loads(cli.out) == {"payloads": [], "totalCount": 0}


def test_a_page_that_fails_is_a_failure(airflow: FakeAirflow, cli: Cli) -> None:
    first = Reply(200, {"payloads": [item_of(n) for n in range(100)], "totalCount": 200})
    for options in ((), ("--json",)):
        airflow.on(f"GET {RUN}/payloads", first, refusal(500, "oh"))
        assert cli("items", "prices", "manual__1", *options) == 1
        assert "failed: oh" in cli.err
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(cli.out)


# -- terminate, and the latest run ----------------------------------------------------------------------------------


def test_terminate_ends_a_run_with_a_reason(airflow: FakeAirflow, cli: Cli) -> None:
    airflow.on(f"POST {RUN}/terminate", Reply(200, {"message": "Terminated"}))
    assert cli("terminate", "prices", "manual__1") == 0
    assert cli.out == "manual__1: Terminated\n"
    assert cli("terminate", "prices", "manual__1", "--reason", "wrong list", "--json") == 0
    assert json.loads(cli.out) == {"message": "Terminated"}
    assert [request.body for request in airflow.asked()] == [{}, {"reason": "wrong list"}]


def test_append_sends_items_and_says_which_they_became(airflow: FakeAirflow, cli: Cli, tmp_path: Path) -> None:
    added = [{"index": n, "id": f"k{n}", "apiName": "details"} for n in (4, 5)]
    answer = {"payloads": added, "message": "Appended"}
    airflow.on(f"POST {RUN}/payloads", Reply(200, answer))
    items = tmp_path / "items.yaml"
    items.write_text("- {api: details, parameters: {id: 4}}\n- {api: details, parameters: {id: 5}}\n")
    assert cli("append", "prices", "manual__1", items, "--parent", "0", "--idempotency-key", "page-1") == 0
    assert cli.out == "Appended: items 4 to 5 of manual__1\n"
    assert cli("append", "prices", "manual__1", items, "--json") == 0
    assert json.loads(cli.out) == answer
    first, second = airflow.asked()
    payload = [{"api": "details", "parameters": {"id": n}} for n in (4, 5)]
    assert (first.body, first.headers["idempotency-key"]) == ({"payload": payload, "parent": 0}, "page-1")
    assert (second.body, "idempotency-key" in second.headers) == ({"payload": payload}, False)


def test_append_says_what_is_wrong_and_where(airflow: FakeAirflow, cli: Cli, tmp_path: Path) -> None:
    items = tmp_path / "items.yaml"
    items.write_text("- api: details\n  paramters: {}\n")
    assert cli("append", "prices", "manual__1", items) == 1
    assert cli.err.startswith(f"{items}:2:3: payload[0].paramters: unknown field")
    items.write_text("- {api: details}\n")
    airflow.on(f"POST {RUN}/payloads", refusal(409, "the run 'manual__1' is closing; nothing can be appended any more"))
    assert cli("append", "prices", "manual__1", items) == 1
    assert "is closing" in cli.err
    assert cli("append", "prices", "manual__1", items, "--parent", "-1") == 2


def test_latest_is_the_newest_run(airflow: FakeAirflow, cli: Cli) -> None:
    airflow.on("GET /jobs/prices/runs", Reply(200, {"jobRuns": [run_of("SUCCESS")], "totalCount": 9}))
    airflow.on(f"POST {RUN}/terminate", Reply(200, {"message": "The run had ended already; nothing was changed"}))
    assert cli("terminate", "prices", "latest") == 0
    assert cli.out == "manual__1: The run had ended already; nothing was changed\n"
    assert query(airflow.asked("GET")[0]) == {"pageSize": "1", "pageNumber": "1"}


# -- what is wrong with a command line, and with answers ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trigger"], "the following arguments are required: JOB"),
        (["trigger", "a", "--idempotency-key", ""], "should be 1 to 250 ASCII characters without spaces"),
        (["trigger", "a", "--idempotency-key", "two words"], "should be 1 to 250 ASCII characters without spaces"),
        (["trigger", "a", "--idempotency-key", "x" * 251], "should be 1 to 250 ASCII characters without spaces"),
        (["update", "x.yaml", "--if-match", "a\r\nX: y"], "should be 1 to 250 ASCII characters without spaces"),
        (["runs", "a", "--limit", "0"], "a count is a whole number from 1"),
        (["runs", "a", "--limit", "many"], "a count is a whole number from 1"),
        (["items", "a", "b", "--status", "odd"], "invalid choice: 'ODD'"),
        (["list", "--state", "odd"], "invalid choice: 'ODD'"),
        (["show", "caf\udce9"], "is not text in UTF-8"),
        (["results", "a", "b", "--json", "--format", "csv"], "--json prints JSON; for CSV leave it out"),
        (["explode"], "invalid choice: 'explode'"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error_and_asks_for_nothing(
    airflow: FakeAirflow, cli: Cli, arguments: list[str], said: str
) -> None:
    assert cli(*arguments) == 2
    assert said in cli.err
    assert cli.out == ""
    assert airflow.asked() == []


@pytest.mark.parametrize(
    ("request_", "arguments"),
    [
        ("GET /jobs", ["list"]),
        ("GET /jobs/prices", ["show", "prices"]),
        ("POST /jobs/prices/pause", ["pause", "prices"]),
        ("POST /jobs/prices/trigger", ["trigger", "prices"]),
        ("GET /jobs/prices/runs", ["runs", "prices"]),
        (f"GET {RUN}", ["watch", "prices", "manual__1"]),
        (f"GET {RUN}/payloads", ["items", "prices", "manual__1"]),
        (f"GET {RUN}/results", ["results", "prices", "manual__1"]),
        (f"POST {RUN}/terminate", ["terminate", "prices", "manual__1"]),
        ("DELETE /jobs/prices", ["delete", "prices"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("body", [{}, [1], {"status": "ok"}, None, b"<html>"], ids=str)
def test_a_good_answer_of_another_service_is_none(
    airflow: FakeAirflow, cli: Cli, request_: str, arguments: list[str], body: Any
) -> None:
    airflow.on(request_, Reply(200, body))
    assert cli(*arguments) == 1
    assert cli.out == ""
    assert cli.err.endswith("; is it the base URL of an Airflow with the jobs plugin?\n")


@pytest.mark.parametrize(
    "details", [None, "x", {"path": "a"}, ["x"], [{"message": None}], [{"path": "a"}]], ids=json.dumps
)
def test_an_error_of_what_stands_before_airflow_is_told(airflow: FakeAirflow, cli: Cli, details: Any) -> None:
    airflow.on("GET /jobs/prices", Reply(429, {"message": "slow down", "details": details}))
    assert cli("show", "prices") == 1
    assert cli.err == "slow down\n"


def test_the_commands_need_no_airflow_and_the_parser_no_http_client() -> None:
    code = (
        "import sys, airflow_jobs_plugin.cli\n"
        "print([m for m in ('httpx', 'pydantic', 'yaml') if m in sys.modules])\n"
        "import airflow_jobs_plugin.remote.commands, airflow_jobs_plugin.remote.documents\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('airflow', 'sqlalchemy')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n[]\n"
