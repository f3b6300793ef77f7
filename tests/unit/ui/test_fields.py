"""The form of a job: to a definition and back, with what it does not show left as it is."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_jobs_plugin.spec import Job
from airflow_jobs_plugin.ui import fields
from airflow_jobs_plugin.ui.pages import Form
from airflow_jobs_plugin.ui.places import field_of
from airflow_jobs_plugin.ui.spelling import canonical

RICH: dict[str, Any] = {
    "id": "rich",
    "target": {"type": "http", "connId": "prices", "path": "/v2/{api}", "headers": {"x-key": "***"}},
    "payload": [
        {"api": "list", "parameters": {"page": 1}, "retry": {"maximumAttempts": 9}, "requestTimeout": 5},
        {"api": "count"},
    ],
    "configuration": {
        "maxConcurrentRequests": 7, "requestTimeout": 12.5, "maxRuns": 50, "toleratedFailurePercentage": 2.5,
        "retry": {"maximumAttempts": 4, "initialInterval": "1s", "maximumInterval": "1m", "backoffCoefficient": 2},
    },
    "schedule": {"calendars": [{"hour": 7, "minute": 5, "dayOfWeek": ["MONDAY", "FRIDAY"]}],
                 "timezone": "Europe/Rome", "jitter": "30s", "startAt": "2026-01-01T00:00:00+00:00"},
    "sink": {"type": "webhook", "url": "https://example.com/hook", "secret": "***", "headers": {"a": "***"},
             "apisToSend": ["list"], "skipOnFail": True, "delivery": "payload"},
    "proxy": "http://proxy:3128",
    "notifications": [{"type": "webhook", "url": "https://example.com/told"}],
}  # fmt: skip
SIMPLE: dict[str, Any] = {"id": "simple", "target": {"type": "http"}, "payload": [{"api": "a"}]}


def schedule(**parts: Any) -> dict[str, Any]:
    return {**SIMPLE, "schedule": parts}


@pytest.mark.parametrize(
    "definition",
    [
        RICH,
        SIMPLE,
        {**SIMPLE, "target": {"type": "python", "module": "a.b"}},
        {**SIMPLE, "target": {"type": "run-api", "connId": "c", "startPath": "/s", "pollInterval": "2s"}},
        {
            **SIMPLE,
            "sink": {"type": "s3", "bucket": "results", "connId": "aws", "key": "{jobId}.json", "format": "jsonl"},
        },
        schedule(intervals=[{"every": "7d", "offset": "3h"}]),
        schedule(calendars=[{"hour": 0, "minute": 0}], timezone="UTC"),
        schedule(calendars=[{"hour": 23, "minute": 59, "dayOfMonth": 31}]),
        schedule(calendars=[{"hour": {"start": 8, "end": 18}}], skip=[{"dayOfWeek": "SUNDAY"}], jitter=1500),
        schedule(intervals=[{"every": 1000}, {"every": "1d"}]),
        {**SIMPLE, "payload": [{"api": "a", "parameters": {"n": n}} for n in range(fields.MOST_ITEMS + 1)]},
    ],
    ids=str,
)
def test_a_definition_that_went_through_the_form_is_the_same(definition: dict[str, Any]) -> None:
    base = canonical(definition)
    assert base == definition, "it was canonical before"
    back, faults = fields.to_definition(fields.of_definition(base), base)
    assert faults == {}
    assert back == definition


def test_other_spellings_become_the_published_ones() -> None:
    written = {
        "id": "x",
        "payload": [{"apiName": "a"}, {"api_name": "b", "request_timeout": 3}],
        "configuration": {"maximumConcurrentRequests": 3, "retry": {"maximum_attempts": 2}},
        "schedule": {"intervals": [{"every": 1000}], "start_at": "2026-01-01T00:00:00Z"},
        "target": {"connId": "c"},
        "unknown": 1,
    }
    assert canonical(written) == {
        "id": "x",
        "payload": [{"api": "a"}, {"api": "b", "requestTimeout": 3}],
        "configuration": {"maxConcurrentRequests": 3, "retry": {"maximumAttempts": 2}},
        "schedule": {"intervals": [{"every": 1000}], "startAt": "2026-01-01T00:00:00Z"},
        "target": {"connId": "c"},
        "unknown": 1,
    }


def test_names_of_days_may_be_short() -> None:
    values = fields.of_definition({"schedule": {"calendars": [{"dayOfWeek": ["mon", 0]}]}})
    assert (values["kind"], values.weekdays, values["time"]) == ("weekly", ["MONDAY", "SUNDAY"], "00:00")


def sent(**texts: Any) -> fields.Values:
    defaults = {
        "target": "http",
        "kind": "none",
        "sink": "none",
        "item_api": "a",
        "item_parameters": "",
        "item_rest": "",
    }
    both = {**defaults, **texts}
    return fields.of_form(Form({name: value if isinstance(value, list) else [value] for name, value in both.items()}))


def test_the_form_becomes_a_definition() -> None:
    values = sent(
        id=" made ", conn_id="prices", item_api=["a", "b"], item_parameters=['{"n": 1}', "{n: 2}"],
        item_rest=["", '{"requestTimeout": 5}'], kind="monthly", time="09:30", month_day="1", timezone="Asia/Tokyo",
        concurrency="3", timeout="2.5", attempts="5", initial="1s", sink="s3", bucket="results", skip_on_fail="yes",
    )  # fmt: skip
    definition, faults = fields.to_definition(values, {})
    assert faults == {}
    assert definition == {
        "id": "made",
        "target": {"type": "http", "connId": "prices"},
        "payload": [{"api": "a", "parameters": {"n": 1}}, {"requestTimeout": 5, "api": "b", "parameters": {"n": 2}}],
        "configuration": {
            "maxConcurrentRequests": 3, "requestTimeout": 2.5,
            "retry": {"maximumAttempts": 5, "initialInterval": "1s"},
        },
        "schedule": {"calendars": [{"hour": 9, "minute": 30, "dayOfMonth": 1}], "timezone": "Asia/Tokyo"},
        "sink": {"type": "s3", "bucket": "results", "skipOnFail": True},
    }  # fmt: skip
    Job.model_validate(definition)


def test_a_field_that_cannot_even_be_read_says_so() -> None:
    values = sent(item_api=["a", "b"], item_parameters=["{}", "{"], item_rest=["", ""], kind="weekly", time="25:00")
    _, faults = fields.to_definition(values, {})
    assert set(faults) == {"item-1-parameters", "weekdays", "time"}


def test_of_another_type_nothing_is_kept() -> None:
    base = {
        "target": {"type": "http", "headers": {"x": "***"}, "path": "/{api}"},
        "sink": {"type": "s3", "bucket": "abc"},
    }
    definition, _ = fields.to_definition(sent(target="python", sink="webhook", url="https://example.com"), base)
    assert definition["target"] == {"type": "python"}
    assert definition["sink"] == {"type": "webhook", "url": "https://example.com"}


def test_odd_forms_do_no_harm() -> None:
    odd = Form({"weekdays": ["MONDAY", "<b>"], "item_api": ["a"], "more_items": ["many"], "kind": ["custom"]})
    definition, _ = fields.to_definition(fields.of_form(odd), {"schedule": "no schedule"})
    assert "schedule" not in definition


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (("id",), "id"),
        (("payload", 3, "api"), "item-3-api"),
        (("payload", 3, "apiName"), "item-3-api"),
        (("payload", 0, "parameters"), "item-0-parameters"),
        (("payload", 0, "retry", "maximumAttempts"), "item-0-parameters"),
        (("payload",), "payload"),
        (("configuration", "retry", "maximum_attempts"), "attempts"),
        (("configuration", "retry"), "maximum"),
        (("schedule", "intervals", 0, "every"), "every"),
        (("schedule", "calendars", 0, "hour"), "time"),
        (("schedule", "calendars", 1, "hour"), "kind"),
        (("schedule", "timezone"), "timezone"),
        (("sink", "url"), "url"),
        (("sink", "apisToSend"), "sink"),
        (("target", "connId"), "conn_id"),
        (("notifications", 0), None),
        ((), None),
    ],
)
def test_faults_have_their_field(path: tuple[str | int, ...], field: str | None) -> None:
    assert field_of(path) == field
    assert field is None or field.startswith("item-") or field in fields.NAMES
