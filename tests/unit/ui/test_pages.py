"""Pages from made-up jobs and runs: what they say, and that nothing of what others wrote becomes HTML."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi import Request

from airflow_jobs_plugin.control.items import ItemAttempts, ItemView
from airflow_jobs_plugin.control.jobs import JobView
from airflow_jobs_plugin.control.rows import Attempt
from airflow_jobs_plugin.control.runs import ItemCounts, RunView
from airflow_jobs_plugin.spec.schedule import WEEKDAYS
from airflow_jobs_plugin.ui import charts, errors, items, jobs, pages, rights
from airflow_jobs_plugin.ui.checks import Check
from airflow_jobs_plugin.ui.drafts import Draft
from airflow_jobs_plugin.ui.progress import Progress
from airflow_jobs_plugin.ui.texts import Line, yaml_of

EVIL = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>`<b>`&lt;{{ 'pw' ~ 'ned' }}"""
NOW = datetime(2026, 11, 25, 22, 24, 10, tzinfo=UTC)


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


class User:
    def get_name(self) -> str:
        return "anna"


def shown(template: str, **context: Any) -> Page:
    scope = {
        "type": "http", "method": "GET", "path": "/jobs/ui/", "root_path": "/below/jobs/ui", "query_string": b"",
        "headers": [], "state": {"job_user": User()},
    }  # fmt: skip
    return Page(bytes(pages.render(Request(scope), template, **context).body).decode())


def job(**changed: Any) -> JobView:
    definition = {
        "payload": [{"api": EVIL, "parameters": {EVIL: EVIL}}],
        "schedule": {"calendars": [{"hour": 2}], "timezone": "Europe/Berlin", "jitter": 30000},
        "sink": {"type": "webhook", "url": "https://example.com/hook", "headers": {"x": "***"}},
    }
    made = JobView("a-job", definition, "API", 1, EVIL, False, NOW, NOW, NOW, EVIL)
    return replace(made, **changed)


def run(**changed: Any) -> RunView:
    made = RunView(
        id=EVIL,
        job_id="a-job",
        status="PENDING",
        manual=True,
        created_at=NOW,
        updated_at=NOW,
        start_time=NOW,
        end_time=None,
        counts=ItemCounts(10, pending=1, running=2, retrying=1, succeeded=3, failed=2, canceled=1),
        note=EVIL,
        triggered_by=EVIL,
        terminated=None,
        delivery={"status": "failed", "to": EVIL, "message": EVIL, "tries": 2, "nextTry": EVIL},
        report={},
        version=None,
    )
    return replace(made, **changed)


def item(**changed: Any) -> ItemView:
    failed = {"status": "failed", "error": EVIL, "message": EVIL, "statusCode": 503}
    made = ItemView(2, EVIL, EVIL, {EVIL: EVIL}, "FAILED", 2, 3, NOW, NOW, 0.5, 1, 1, failed)
    return replace(made, **changed)


ALL = frozenset(rights.NAMED)
WANTED = jobs.Wanted(q=EVIL, sort="-id", page=2, state=None, source=None)
ITEMS = items.Wanted(q=EVIL, sort="index", page=1, status=None)
TRIED = ItemAttempts([Attempt(1, NOW, NOW, False), Attempt(2, NOW, None, None)], [timedelta(seconds=1)], NOW, 7, 600.0)
CHECK = Check(False, {}, [Line(EVIL, 3, 4, EVIL)], {"id": [EVIL]}, EVIL, EVIL, "Europe/Berlin", EVIL, [NOW])


def everything() -> dict[str, dict[str, Any]]:
    view, one = job(), run()
    table = items.Table([item(), item(outcome=None, parent=None)], 200, 1, 4)
    plot = charts.plot([run(status="COMPLETED", end_time=NOW + timedelta(seconds=3)), one])
    draft = Draft.stored(view, editor=False)
    written = Draft.stored(view, editor=True)
    written.text = EVIL
    edit = {
        "check": CHECK, "fault": EVIL, "focus": None, "beside": False, "names": (), "base": EVIL, "weekdays": WEEKDAYS,
        "zones": [EVIL], "most_items": 100,
    }  # fmt: skip
    of_run = {"job": view, "run": one, "can": ALL, "progress": Progress.of(one, None), "plan": "plan", "sink": "sink"}
    values = {"payload": EVIL, "note": EVIL, "key": EVIL, "parent": EVIL}
    asked = {"values": values, "faults": [Line(EVIL, 1, 2, EVIL)]}
    return {
        "jobs.html": {"wanted": WANTED, "jobs": [view], "total": 60, "pages": 3, "can": {"a-job": ALL},
                      "last": {"a-job": one}, "may_create": True, "page_size": 25},
        "several.html": {"what": "pause", "changed": ["b"], "refused": [("a", EVIL)]},
        "job.html": {"job": view, "can": ALL, "runs": [one], "total": 40, "page": 2, "pages": 3, "plot": plot,
                     "times": [NOW], "definition": yaml_of(view.definition), "hidden": 3, "length": str},
        "readonly.html": {"job": view, "definition": EVIL},
        "delete.html": {"job": view, "fault": EVIL, "total": 3, "active": 1},
        "trigger.html": {"job": view, "own": EVIL, **asked},
        "edit.html": {"draft": draft, "rows": draft.values.items, **edit},
        "edit.html#editor": {"draft": written, "rows": [], **edit},
        "_check.html": {"draft": draft, "check": CHECK, "names": ["id", "item-0-api"], "beside": True},
        "run.html": {**of_run, "wanted": ITEMS, "table": table, "changed": False},
        "run.html#ended": {**of_run, "wanted": ITEMS, "table": None, "changed": False,
                           "run": run(status="TERMINATED", terminated={"by": EVIL, "why": EVIL, "at": EVIL})},
        "_live.html": {**of_run, "changed": True},
        "_items.html": {"run": one, "wanted": ITEMS, "table": table, "job_id": "a-job"},
        "item.html": {"job": view, "run": one, "item": item(), "tried": TRIED, "can": ALL, "task": "payload"},
        "item.html#good": {"job": view, "run": one, "tried": TRIED, "can": ALL, "task": "payload",
                           "item": item(outcome={"status": "completed", "result": {EVIL: EVIL}, "statusCode": 200})},
        "append.html": {"job": view, "run": one, **asked},
        "terminate.html": {"job": view, "run": one},
        "redeliver.html": {"job": view, "run": one},
        "error.html": {"title": EVIL, "message": EVIL},
        "nojob.html": {"dag_id": EVIL},
    }  # fmt: skip


@pytest.mark.parametrize("template", everything())
def test_what_others_wrote_is_text_and_nothing_is_inline(template: str) -> None:
    page = shown(template.partition("#")[0], **everything()[template])
    assert not page.named("img")
    assert not page.named("b")
    assert [script for script in page.named("script") if not script.get("src")] == []
    assert [name for _, attributes in page.tags for name in attributes if name.startswith(("on", "hx-on"))] == []
    assert [attributes for _, attributes in page.tags if "style" in attributes] == []
    assert page.named("style") == []
    assert "pwned" not in page.html, "what others wrote is no template"
    for _, attributes in page.tags:
        for name in ("href", "src", "action", "formaction", "hx-get", "hx-post"):
            address = attributes.get(name)
            assert not address or address.startswith(("/below/", "#")), (name, address)


def test_every_template_is_among_those() -> None:
    parts = {"base.html", "_macros.html", "_run_actions.html"}
    assert {name.partition("#")[0] for name in everything()} | parts == set(pages.templates().list_templates())


def test_whoever_may_do_nothing_is_offered_nothing() -> None:
    found = everything()
    can = frozenset({"read", "see_runs", "see_items", "see_results"})
    listed = shown("jobs.html", **{**found["jobs.html"], "can": {"a-job": can}, "may_create": False})
    assert [form["action"] for form in listed.named("form") if form.get("method") == "post"] == ["/below/jobs/ui/bulk"]
    assert listed.named("button") == [{"class": "button"}], "that of the search, for whom has no scripts"
    one = shown("job.html", **{**found["job.html"], "can": can})
    assert not one.named("form")
    running = shown("_live.html", **{**found["_live.html"], "can": can})
    assert not any("terminate" in (link.get("href") or "") for link in running.named("a"))
    assert any("results" in (link.get("href") or "") for link in running.named("a"))
    blind = shown("job.html", **{**found["job.html"], "can": frozenset({"read"}), "runs": [], "total": 0})
    assert "You may not look at the runs" in blind.text


def test_a_run_that_has_ended_asks_for_nothing_more() -> None:
    active = {"job": job(), "can": ALL, "plan": "plan", "sink": "sink", "changed": False}
    for status, asks in (("PENDING", True), ("PAUSED", True), ("SUCCESS", False), ("TERMINATED", False)):
        view = run(status=status, terminated={"by": "anna", "why": None} if status == "TERMINATED" else None)
        page = shown("_live.html", run=view, progress=Progress.of(view, None), **active)
        assert ("hx-trigger" in page.html) is asks, status


def test_a_bar_says_in_words_what_it_shows() -> None:
    counts = ItemCounts(10_000, succeeded=9_999, failed=1)
    svg = str(charts.bar(counts))
    assert 'aria-label="10,000 items: 9,999 succeeded, 1 failed"' in svg
    widths = [float(part.split('"')[0]) for part in svg.split(' width="')[2:]]
    assert sum(widths) == pytest.approx(200, abs=0.1)
    assert min(widths) > 2, "one of ten thousand can be seen"
    assert "no items yet" in str(charts.bar(ItemCounts(None)))


def test_the_drawing_of_runs_has_a_bar_for_each_that_has_begun() -> None:
    long = run(id="long", status="FAILURE", end_time=NOW + timedelta(seconds=90))
    short = run(id="short", status="SUCCESS", end_time=NOW + timedelta(seconds=30))
    plot = charts.plot([short, long, run(start_time=None)])
    assert plot is not None
    assert plot.longest == 90
    assert plot.svg.count("<title>") == 2
    assert "1 of 2 that have ended went well" in plot.svg
    assert charts.plot([run(start_time=None)]) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0, "0 ms"), (0.1204, "120 ms"), (3.25, "3.2 s"), (3, "3 s"), (61, "1 min 1 s"), (3600, "1 h"),
     (7500, "2 h 5 min"), (90_000, "1 d 1 h"), (86_460, "1 d")],
)  # fmt: skip
def test_durations_for_people(seconds: float | None, text: str) -> None:
    assert pages.span(seconds) == text


def test_titles_of_errors_are_known() -> None:
    assert {400, 401, 403, 404, 409, 412, 422, 500} <= set(errors._TITLES)
