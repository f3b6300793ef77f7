"""The Jobs tab as people use it: in a browser, against a real Airflow. Jobs and runs to look at are shared."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.stack import AirflowStack

from . import browser as chrome
from .conftest import Api
from .furnishing import SECRET, TOKEN, Furnished, furnish, slow

pytestmark = pytest.mark.e2e
Page = Any


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    chrome.must_be_there()
    with chrome.chromium() as found:
        yield found


@pytest.fixture(scope="module")
def stage(chromium: Any, airflow: AirflowStack, rest: httpx.Client, receiver: WebhookReceiver) -> Furnished:
    # What other tests have left in this Airflow would be on the pages, too.
    for job in rest.get("/jobs").json():
        if job["source"] == "API":
            rest.delete(f"/jobs/{job['id']}", params={"force": True}).raise_for_status()
    for file in (airflow.dags_folder / "jobs").iterdir():
        file.unlink()
    airflow.client.wait_until("an empty list of jobs", lambda: not rest.get("/jobs").json(), 120)
    return furnish(airflow, rest, receiver.url)


@pytest.fixture
def page(chromium: Any, airflow: AirflowStack) -> Iterator[Page]:
    with chrome.opened(chromium, airflow.base_url, airflow.token()) as found:
        yield found


def rows(page: Page, table: str = "#jobs") -> list[str]:
    return [text.strip() for text in page.locator(f"{table} tbody th a").all_inner_texts()]


def text_of(page: Page, selector: str) -> str:
    return str(page.locator(selector).inner_text())


# -- jobs ------------------------------------------------------------------------------------------------------------


def test_jobs_are_listed_searched_filtered_and_sorted(stage: Furnished, page: Page) -> None:
    page.goto("/jobs/ui/")
    row = page.locator("tr", has=page.get_by_role("link", name="catalogue-check", exact=True))
    assert "Active" in row.inner_text()
    assert "every 6 hours" in row.inner_text()
    assert "8 items: 7 succeeded, 1 failed" in row.inner_text()
    assert row.get_by_role("img").get_attribute("aria-label") == "8 items: 7 succeeded, 1 failed"
    assert "file" in page.locator("tr", has=page.get_by_role("link", name="weekly-report", exact=True)).inner_text()
    before = rows(page)
    page.get_by_role("link", name="Job", exact=True).click()
    page.wait_for_function("() => document.querySelector('#jobs th[aria-sort]')?.ariaSort === 'descending'")
    assert rows(page) == before[::-1]
    page.get_by_label("Search").press_sequentially("price")
    page.wait_for_url("**/?*q=price*")
    assert rows(page) == ["nightly-prices"]
    page.reload()
    assert rows(page) == ["nightly-prices"], "the address says what is shown"
    page.get_by_label("Search").fill("no job is called so")
    page.get_by_text("No job is like that").wait_for()
    page.goto("/jobs/ui/")
    page.get_by_label("State").select_option("PAUSED")
    page.wait_for_url("**/?*state=PAUSED*")
    assert rows(page) == ["paused-crawl"]
    page.goto("/jobs/ui/?source=CODE")
    assert rows(page) == ["weekly-report"]


def test_jobs_are_paused_and_resumed_one_by_one_and_together(stage: Furnished, page: Page, rest: httpx.Client) -> None:
    def states() -> dict[str, str]:
        return {job: rest.get(f"/jobs/{job}").json()["state"] for job in ("sum-of-all", "paused-crawl")}

    page.goto("/jobs/ui/?q=sum-of")
    page.get_by_role("button", name="Pause sum-of-all").click()
    page.get_by_role("button", name="Resume sum-of-all").wait_for()
    assert "The job is paused" in text_of(page, ".notice.good")
    assert states()["sum-of-all"] == "PAUSED"
    page.goto("/jobs/ui/?sort=-id")
    together = page.get_by_role("group", name="Jobs that are ticked")
    assert together.get_by_role("button", name="Resume").is_disabled()
    page.get_by_label("Choose sum-of-all").check()
    page.get_by_label("Choose paused-crawl").check()
    assert "2 ticked" in together.inner_text()
    together.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Pause paused-crawl").wait_for()
    assert states() == {"sum-of-all": "ACTIVE", "paused-crawl": "ACTIVE"}
    page.get_by_label("Choose paused-crawl").check()
    together.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Resume paused-crawl").wait_for()
    assert states() == {"sum-of-all": "ACTIVE", "paused-crawl": "PAUSED"}


def test_a_job_shows_its_definition_its_times_and_its_runs(stage: Furnished, page: Page) -> None:
    page.goto("/jobs/ui/job/nightly-prices")
    definition = page.get_by_role("group", name="Definition as text")
    assert "secret: '***'" in definition.inner_text()
    assert "apiKey: '***'" in definition.inner_text()
    for hidden in (SECRET, TOKEN, "key-of-the-prices"):
        assert hidden not in page.content()
    times = page.get_by_role("group", name="Table of next run times").locator("tbody tr")
    assert times.count() == 10
    assert "02:30:00 CE" in times.first.inner_text()
    assert "at 02:30" in page.locator(".facts").first.inner_text()
    assert "Europe/Berlin" in page.get_by_role("group", name="Table of next run times").locator("thead").inner_text()
    runs = page.get_by_role("group", name="Table of runs").locator("tbody tr")
    assert "Success" in runs.first.inner_text()
    assert re.search(r"\d+(\.\d)? s", runs.first.inner_text())
    assert "3 items: 3 succeeded" in runs.first.inner_text()
    plot = page.locator("figure svg")
    assert "1 of 1 that have ended went well" in plot.get_attribute("aria-label")
    assert page.get_by_role("link", name="Open the DAG").get_attribute("href") == "/dags/nightly-prices"


def test_the_readers_own_times_are_those_of_the_zone_that_they_chose_in_airflow(stage: Furnished, page: Page) -> None:
    page.add_init_script("localStorage.setItem('timezone', JSON.stringify('Asia/Tokyo'))")
    page.goto("/jobs/ui/job/nightly-prices")
    table = page.get_by_role("group", name="Table of next run times")
    assert "in Asia/Tokyo" in table.inner_text()
    # 02:30 in Berlin is 09:30 or 10:30 in Tokyo, as summer time has it.
    assert re.search(r"(09|10):30:00", table.locator("tbody time").first.inner_text())


# -- create, edit, delete --------------------------------------------------------------------------------------------


def test_a_job_is_created_by_the_form_and_deleted(stage: Furnished, page: Page, rest: httpx.Client) -> None:
    page.goto("/jobs/ui/")
    page.get_by_role("link", name="New job").click()
    page.get_by_label("Id", exact=True).press_sequentially("by hand")
    wrong = page.locator("#err-id")
    wrong.get_by_text("is not a job id").wait_for()
    assert page.get_by_label("Id", exact=True).get_attribute("aria-invalid") == "true"
    page.get_by_label("Id", exact=True).fill("made-by-hand")
    page.get_by_label("API 0").fill("echo")
    page.get_by_label("Parameters 0").fill('{"page": }')
    page.locator("#err-item-0-parameters").get_by_text("not").wait_for()
    page.get_by_label("Parameters 0").fill('{"page": 1}')
    page.get_by_label("Runs", exact=True).select_option("weekly")
    page.locator("#err-weekdays").get_by_text("at least one day").wait_for()
    page.get_by_label("Monday").check()
    page.get_by_label("At", exact=True).fill("07:15")
    page.get_by_label("Time zone").fill("Europe/Rome")
    page.get_by_text("This definition is good").wait_for()
    check = page.locator("#check")
    check.get_by_text("07:15:00 CE").first.wait_for()
    assert check.locator("tbody tr").count() == 10
    page.get_by_role("button", name="Add an item").click()
    page.get_by_label("API 1").fill("echo")
    page.get_by_role("button", name="Remove item 1").click()
    page.get_by_label("API 1").wait_for(state="detached")
    page.get_by_label("Attempts").fill("4")
    page.get_by_role("button", name="Create the job").click()
    page.get_by_text("The job was created").wait_for()
    stored = rest.get("/jobs/made-by-hand").json()
    assert stored["payload"] == [{"apiName": "echo", "parameters": {"page": 1}}]
    assert stored["configuration"]["retry"]["maximumAttempts"] == 4
    assert stored["schedule"]["timezone"] == "Europe/Rome"
    assert stored["schedule"]["calendars"][0]["dayOfWeek"] == "MONDAY"
    page.get_by_role("link", name="Delete").click()
    assert "cannot be undone" in text_of(page, "main")
    page.get_by_role("link", name="Keep it").click()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete the job").click()
    page.get_by_text("The job is gone").wait_for()
    assert rest.get("/jobs/made-by-hand").status_code == 404


def test_a_job_is_written_in_the_editor_with_its_faults_by_line(
    stage: Furnished, page: Page, rest: httpx.Client
) -> None:
    page.goto("/jobs/ui/new?mode=editor")
    text = "id: from-text\npayload:\n  - api: echo\n    paramters: {a: 1}\nschedule:\n  calendars: [{hour: 25}]\n"
    page.get_by_label("Definition", exact=True).fill(text)
    faults = page.locator("[data-check=faults]")
    faults.get_by_text("did you mean 'parameters'?").wait_for()
    faults.get_by_role("link", name="line 4, column 5").click()
    chosen = page.evaluate(
        "() => { const t = document.getElementById('text'); return t.value.slice(t.selectionStart) }"
    )
    assert chosen.startswith("paramters")
    assert "line 6" in faults.inner_text()
    page.get_by_role("button", name="Create the job").click()
    page.locator("[data-check=faults]").wait_for()
    assert rest.get("/jobs/from-text").status_code == 404
    page.get_by_label("Definition", exact=True).fill(text.replace("paramters", "parameters").replace("25", "5"))
    page.get_by_text("This definition is good").wait_for()
    page.get_by_role("button", name="Write it as JSON").click()
    assert json.loads(page.get_by_label("Definition", exact=True).input_value())["id"] == "from-text"
    page.get_by_role("button", name="Form", exact=True).click()
    assert page.get_by_label("Id", exact=True).input_value() == "from-text"
    assert page.get_by_label("At", exact=True).input_value() == "05:00"
    page.get_by_role("button", name="Editor").click()
    page.get_by_role("button", name="Create the job").click()
    page.get_by_text("The job was created").wait_for()
    assert rest.get("/jobs/from-text").json()["payload"] == [{"apiName": "echo", "parameters": {"a": 1}}]


def test_a_job_is_edited_and_its_secrets_stay(
    stage: Furnished, page: Page, rest: httpx.Client, airflow: AirflowStack, receiver: WebhookReceiver
) -> None:
    page.goto("/jobs/ui/job/nightly-prices/edit")
    assert page.get_by_label("Signing secret").input_value() == "***"
    page.get_by_text("This definition is good").wait_for()
    page.get_by_label("Calls at a time").fill("zero")
    page.locator("#err-concurrency").get_by_text("valid integer").wait_for()
    page.get_by_label("Calls at a time").fill("2")
    page.get_by_label("URL").fill("https://elsewhere.example/hook")
    page.locator("#err-secret").get_by_text("not kept for another place").wait_for()
    page.get_by_label("URL").fill(receiver.url)
    page.get_by_text("This definition is good").wait_for()
    page.get_by_role("button", name="Save").last.click()
    page.get_by_text("The job was changed").wait_for()
    assert rest.get("/jobs/nightly-prices").json()["configuration"]["maxConcurrentRequests"] == 2
    run_id = stage.trigger("nightly-prices")
    airflow.wait_for_run("nightly-prices", run_id)
    (sent,) = [r for r in receiver.ledger.all() if r.body["projectJobRun"]["id"] == run_id]
    assert sent.headers["authorization"] == TOKEN
    assert "webhook-signature" in sent.headers


def test_what_somebody_else_has_changed_meanwhile_is_not_overwritten(
    stage: Furnished, page: Page, rest: httpx.Client
) -> None:
    page.goto("/jobs/ui/job/paused-crawl/edit")
    changed = {**slow("paused-crawl", 1, 3, 2)}
    rest.put("/jobs/paused-crawl", json=changed).raise_for_status()
    page.get_by_role("button", name="Save").last.click()
    page.get_by_text("is no longer what If-Match names").wait_for()
    assert len(rest.get("/jobs/paused-crawl").json()["payload"]) == 3


def test_a_job_of_a_file_is_read_only_with_the_reason(stage: Furnished, page: Page) -> None:
    page.goto("/jobs/ui/job/weekly-report")
    assert page.get_by_role("link", name="Delete").count() == 0
    page.get_by_role("link", name="Why read-only?").click()
    assert "defined in a file" in text_of(page, ".card .notice")
    assert "weekly-report.job.yaml" in text_of(page, "main")
    assert page.locator("main form").count() == 0


# -- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_is_triggered_with_a_payload_of_its_own_and_watched_to_its_end(
    stage: Furnished, page: Page, rest: httpx.Client, api: Api
) -> None:
    stage.create(slow("watched", 0.5, 2, 2))
    page.goto("/jobs/ui/job/watched")
    page.get_by_role("link", name="Trigger").click()
    payload = page.get_by_label("A payload of its own")
    payload.fill("- api: slow\n  paramters: {seconds: 1}\n")
    page.get_by_role("button", name="Start the run").click()
    page.locator("#faults").get_by_text("did you mean 'parameters'?").wait_for()
    payload.fill(json.dumps([{"api": "slow", "parameters": {"seconds": 1.2, "n": n}} for n in range(6)]))
    page.get_by_label("Note").fill("for the board")
    page.get_by_role("button", name="Start the run").click()
    page.get_by_text("The run was started").wait_for()
    polls: list[str] = []
    page.on("request", lambda request: polls.append(request.url) if "/live" in request.url else None)
    live = page.locator("#live")
    page.wait_for_function("() => document.querySelector('.c-running dd')?.textContent === '2'", timeout=60_000)
    page.wait_for_function("() => /Rate\\s*[0-9.]+ items.s/.test(document.getElementById('live').textContent)")
    page.wait_for_function("() => document.querySelectorAll('#live dd time').length === 2")  # begun, about to end
    assert "for the board" in live.inner_text()
    page.wait_for_function("() => document.getElementById('live').dataset.status === 'SUCCESS'", timeout=60_000)
    assert live.get_attribute("hx-get") is None, "nothing asks any more"
    page.wait_for_function("() => document.querySelectorAll('#items .i-SUCCEEDED').length === 6")
    assert "The run has ended: success. 6 items: 6 succeeded." in text_of(page, "#announcer")
    assert page.get_by_role("link", name="Terminate").count() == 0
    before = len(polls)
    assert before > 1
    page.wait_for_timeout(2_500)
    assert len(polls) == before
    assert len(api.calls("watched")) == 6


def test_items_are_appended_to_a_run_and_it_is_terminated(stage: Furnished, page: Page, rest: httpx.Client) -> None:
    stage.create(slow("growing", 60, 1, 1))
    run_id = stage.trigger("growing")
    page.goto(stage.run("growing"))
    page.get_by_role("link", name="Append items").click()
    page.get_by_label("Items", exact=True).fill("[]")
    page.get_by_role("button", name="Append").click()
    page.locator("#faults").get_by_text("a payload is a list of items").wait_for()
    page.get_by_label("Items", exact=True).fill("- {api: echo, parameters: {shelf: 1}}\n- {api: echo}\n")
    page.get_by_label("Parent").fill("0")
    page.get_by_role("button", name="Append").click()
    page.get_by_text("The items were appended").wait_for()
    page.wait_for_function("() => document.querySelectorAll('#items tbody tr').length === 3")
    assert page.get_by_role("link", name="Item 0, which appended item 1").count() == 1
    page.get_by_role("link", name="Terminate").click()
    page.get_by_label("Reason").fill("seen enough")
    page.get_by_role("button", name="Terminate the run").click()
    page.get_by_text("The run was terminated").wait_for()
    assert ": seen enough" in text_of(page, "#live")
    assert page.locator("#live .badge").first.inner_text().strip() == "Terminated"
    run = rest.get(f"/jobs/growing/runs/{run_id}").json()["jobRun"]
    assert (run["status"], run["reason"]["details"]["why"]) == ("TERMINATED", "seen enough")


def test_items_are_searched_filtered_sorted_and_paged(stage: Furnished, page: Page) -> None:
    page.goto(stage.run("sum-of-all"))
    pager = page.get_by_role("navigation", name="Pages of items")
    assert "120 items · page 1 of 3" in pager.inner_text()
    pager.get_by_role("link", name="Next").click()
    page.wait_for_url("**?page=2")
    assert page.locator("#items tbody td").first.inner_text() == "50"
    page.get_by_label("Search").press_sequentially('"a": 117')
    page.wait_for_function("() => document.querySelectorAll('#items tbody tr').length === 1")
    assert page.locator("#items tbody td").first.inner_text() == "117"
    page.get_by_label("Search").fill("")
    page.get_by_label("Status").select_option("FAILED")
    page.wait_for_url("**?status=FAILED")
    assert page.locator("#items tbody tr").count() == 1
    assert "missing" in text_of(page, "#items .why")
    page.get_by_label("Status").select_option("")
    page.wait_for_function("() => document.querySelectorAll('#items tbody tr').length === 50")
    for _ in range(2):
        page.get_by_role("link", name="#", exact=True).click()
    page.wait_for_function("() => document.querySelector('#items tbody td').textContent === '119'")


def test_an_item_shows_its_call_its_attempts_its_waits_and_its_error(stage: Furnished, page: Page) -> None:
    page.goto(stage.run("catalogue-check"))
    page.locator("#items").get_by_role("link", name="fail", exact=True).click()
    assert '"shop": "south"' in text_of(page, "main")
    assert "2 of at most 2" in text_of(page, "main")
    attempts = page.get_by_role("group", name="Table of attempts").locator("tbody tr")
    assert ["failed" in row for row in attempts.all_inner_texts()] == [True, True]
    assert "after failed attempt 1: 1 s" in text_of(page, ".waits")
    assert "status 503" in page.get_by_role("region", name="Error").inner_text()
    assert "no luck, call 2" in text_of(page, "pre.bad")
    log = page.get_by_role("link", name="Open the log").get_attribute("href")
    assert log.startswith("/dags/catalogue-check/runs/")
    assert log.endswith("/tasks/payload/mapped/2")
    page.goto(stage.run("catalogue-check") + "/item/1")
    attempts = page.get_by_role("group", name="Table of attempts").locator("tbody tr")
    assert ["well" in row for row in attempts.all_inner_texts()] == [False, True]
    page.goto(stage.run("catalogue-check") + "/item/4")
    assert '"shelf": 0' in page.get_by_role("region", name="Result").inner_text()
    page.get_by_role("link", name="item 3").click()
    page.get_by_role("heading", name="Item 3: grow").wait_for()


def test_results_are_downloaded(stage: Furnished, page: Page, tmp_path: Path) -> None:
    page.goto(stage.run("catalogue-check"))
    with page.expect_download() as found:
        page.get_by_role("link", name="Results as JSON Lines").click()
    found.value.save_as(tmp_path / "results.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line["apiInfo"]["result"]["status"] for line in lines].count("completed") == 7
    with page.expect_download() as found:
        page.get_by_role("link", name="as CSV").click()
    assert found.value.suggested_filename == "catalogue-check.csv"
    found.value.save_as(tmp_path / "results.csv")
    with (tmp_path / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 8


def test_the_delivery_is_shown_and_made_once_more(stage: Furnished, page: Page, receiver: WebhookReceiver) -> None:
    run_id = stage.runs["catalogue-check"]

    def sent() -> int:
        return sum(request.body["projectJobRun"]["id"] == run_id for request in receiver.ledger.all())

    page.goto(stage.run("catalogue-check"))
    assert "Delivered" in text_of(page, "#live .d-delivered")
    assert receiver.url in text_of(page, "#live")
    before = sent()
    page.get_by_role("link", name="Redeliver").click()
    page.get_by_role("button", name="Deliver once more").click()
    page.get_by_text("The results are being delivered once more").wait_for()
    page.wait_for_function("() => document.getElementById('live').dataset.status === 'COMPLETED'", timeout=60_000)
    assert sent() == before + 1


# -- what others have written ----------------------------------------------------------------------------------------


def test_nothing_that_others_have_written_is_html(stage: Furnished, page: Page) -> None:
    run = stage.run("untrusted-texts")
    one = "/jobs/ui/job/untrusted-texts"
    for path in ("/jobs/ui/", one, f"{one}/edit", f"{one}/edit?mode=editor", f"{one}/trigger", run, f"{run}/item/0",
                 f"{run}/item/1", f"{run}?q=%3Cimg%20src%3Dx%3E", "/jobs/ui/?q=%3Cimg%20src%3Dx%3E",
                 "/jobs/ui/dag/%3Cimg%20src%3Dx%3E", "/jobs/ui/?done=%3Cimg%20src%3Dx%3E"):  # fmt: skip
        page.goto(path)
        assert page.locator("img").count() == 0, path
        assert page.evaluate("() => window.hacked") is None, path
    page.goto(f"{run}/item/0")
    assert page.get_by_role("heading", level=1).inner_text() == "Item 0: <img src=x onerror=window.hacked=1>"
    page.goto(f"{run}/item/1")
    assert "<img src=x" in text_of(page, "pre.bad")


def test_a_form_of_another_site_is_refused(
    stage: Furnished, page: Page, airflow: AirflowStack, rest: httpx.Client
) -> None:
    # On the same host, so that the browser sends the session's cookie along; and every visitor is an admin here.
    other = "http://127.0.0.1:8099/win"
    action = f"{airflow.base_url}/jobs/ui/job/nightly-prices/pause"
    form = f'<form method="post" action="{action}"><button>Win a prize</button></form>'
    page.route(other, lambda route: route.fulfill(content_type="text/html", body=form))
    page.goto(other)
    page.get_by_role("button", name="Win a prize").click()
    page.get_by_role("heading", name="You may not do this").wait_for()
    assert rest.get("/jobs/nightly-prices").json()["state"] == "ACTIVE"


def test_a_part_that_cannot_be_brought_up_to_date_says_so(stage: Furnished, page: Page) -> None:
    page.goto(stage.run("sum-of-all"))
    trouble = page.locator("#trouble")
    page.route("**/items?*", lambda route: route.abort())
    page.get_by_label("Status").select_option("FAILED")
    trouble.get_by_text("the server does not answer").wait_for()
    page.unroute("**/items?*")
    page.route("**/items?*", lambda route: route.fulfill(status=401, body="<img src=x onerror=window.hacked=1>"))
    page.get_by_label("Status").select_option("PENDING")
    trouble.get_by_text("Your session is over").wait_for()
    assert page.locator("#items tbody tr").count() == 50, "what was there stays"
    page.unroute("**/items?*")
    page.get_by_label("Status").select_option("FAILED")
    page.wait_for_function("() => document.querySelectorAll('#items tbody tr').length === 1")
    assert trouble.is_hidden()


# -- in Airflow's own pages, in both themes, for everybody -----------------------------------------------------------


def test_the_tab_is_reached_from_airflows_pages(stage: Furnished, page: Page, airflow: AirflowStack) -> None:
    page.goto("/")
    page.get_by_role("link", name="Jobs", exact=True).click()
    frame = page.frame_locator("iframe")
    frame.get_by_role("heading", name="Jobs", level=1).wait_for()
    frame.get_by_role("link", name="catalogue-check", exact=True).click()
    frame.get_by_role("heading", name="catalogue-check", level=1).wait_for()
    assert frame.locator("html").get_attribute("data-theme") == "light"
    page.evaluate("() => document.documentElement.className = 'dark'")
    page.frames[1].wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
    page.evaluate("() => document.documentElement.className = 'light'")
    # From within the frame to a page of Airflow's.
    frame.get_by_role("link", name="Open the DAG").click()
    page.wait_for_url("**/dags/catalogue-check*")
    page.get_by_role("link", name="Job", exact=True).click()
    frame.get_by_role("heading", name="catalogue-check", level=1).wait_for()
    page.goto(f"/dags/catalogue-check/runs/{stage.runs['catalogue-check'].replace('+', '%2B')}")
    page.get_by_role("link", name="Job run", exact=True).click()
    frame.get_by_role("heading", name="Run of catalogue-check", level=1).wait_for()
    frame.get_by_role("link", name="Redeliver").wait_for()
    page.goto("/dags/no-job/plugin/job")
    frame.get_by_role("heading", name="This DAG is no job").wait_for()


def pages_of(stage: Furnished) -> dict[str, str]:
    one, run = "/jobs/ui/job/nightly-prices", stage.run("catalogue-check")
    return {
        "jobs": "/jobs/ui/",
        "no jobs": "/jobs/ui/?q=nothing-is-called-so",
        "a job": one,
        "new": "/jobs/ui/new",
        "editor": "/jobs/ui/new?mode=editor",
        "edit": f"{one}/edit",
        "read-only": "/jobs/ui/job/weekly-report/edit",
        "trigger": f"{one}/trigger",
        "delete": f"{one}/delete",
        "run": run,
        "item": f"{run}/item/2",
        "append": f"{run}/append",
        "terminate": f"{run}/terminate",
        "redeliver": f"{run}/redeliver",
        "error": "/jobs/ui/job/no-such-job",
        "no job": "/jobs/ui/dag/no-job",
    }


def test_every_page_is_accessible_in_both_themes_and_asks_no_other_host(
    stage: Furnished, page: Page, airflow: AirflowStack
) -> None:
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url.split("/jobs/ui")[0]))
    found: dict[str, list[str]] = {}
    for name, path in pages_of(stage).items():
        page.goto(path)
        for theme in ("light", "dark"):
            page.evaluate("(theme) => document.documentElement.dataset.theme = theme", theme)
            found[f"{name}, {theme}"] = chrome.violations(page)
    assert {where: what for where, what in found.items() if what} == {}
    page.evaluate("() => document.querySelector('main').append(document.createElement('input'))")
    assert any("label" in fault for fault in chrome.violations(page)), "what is wrong would be found"
    assert asked == {airflow.base_url}


def test_keys_are_enough(stage: Furnished, page: Page) -> None:
    page.goto("/jobs/ui/job/nightly-prices")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Trigger"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Trigger nightly-prices").wait_for()
