from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_jobs_plugin.spec import HttpTarget, Job, RunApiTarget, explain, item_name, masked, parse_payload

FULL: dict[str, Any] = {
    "id": "nightly-prices",
    "payload": [
        {
            "api": "list-products",
            "parameters": {"page": 1},
            "retry": {"maximumAttempts": 5},
            "requestTimeout": 600,
        }
    ],
    "configuration": {
        "retry": {
            "maximumAttempts": 3,
            "initialInterval": "1s",
            "maximumInterval": "1m",
            "backoffCoefficient": 2,
        },
        "maxConcurrentRequests": 5,
        "requestTimeout": 600,
        "itemsPerTask": 1,
        "maxRuns": None,
        "toleratedFailurePercentage": 0,
    },
    "schedule": {
        "intervals": [{"every": "7d", "offset": "3h"}],
        "calendars": [{"dayOfMonth": 1}],
        "skip": [],
        "timezone": "UTC",
        "jitter": "30s",
        "startAt": None,
        "endAt": None,
    },
    "sink": {"type": "webhook", "url": "https://example.com/hook"},
    "target": {"type": "http", "connId": "prices_api"},
    "proxy": None,
    "auth_session": None,
    "notifications": None,
}
SMALL: dict[str, Any] = {"id": "x", "payload": [{"api": "a"}]}


def faults(definition: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Job.model_validate(definition)
    return [str(fault) for fault in explain(caught.value)]


def test_the_definition_of_the_specification_is_valid() -> None:
    job = Job.model_validate(FULL)
    assert job.configuration.retry.maximum_interval == 60_000
    assert job.schedule is not None
    assert job.schedule.intervals[0].offset == 3 * 3_600_000


def test_a_small_definition_gets_the_documented_defaults() -> None:
    job = Job.model_validate(SMALL)
    assert job.payload[0].parameters == {}
    assert job.configuration.max_concurrent_requests == 5
    assert job.configuration.request_timeout == 600
    assert job.configuration.items_per_task == 1
    assert job.target == HttpTarget(connId="airflow_jobs_default", method="POST", path="/{api}")
    assert job.schedule is job.sink is None


def test_the_defaults_of_a_run_api_are_the_platforms() -> None:
    target = Job.model_validate({**SMALL, "target": {"type": "run-api"}}).target
    assert isinstance(target, RunApiTarget)
    assert (target.start_path, target.result_path, target.cancel_path) == ("/run/start", "/run/{runId}/result", None)
    assert (target.poll_interval, target.max_poll_interval, target.send_run_token) == (1_000, 30_000, False)


def test_a_long_first_wait_is_the_longest_too() -> None:
    definition = {**SMALL, "target": {"type": "run-api", "pollInterval": "1m", "resultPath": "/{api}/{runId}?a=b"}}
    job = Job.model_validate(definition)
    assert isinstance(job.target, RunApiTarget)
    assert job.target.max_poll_interval == 60_000
    again = {**SMALL, "target": job.target.model_dump(by_alias=True, exclude_none=True)}
    assert Job.model_validate(again) == job


def test_snake_case_means_the_same() -> None:
    def snake(value: Any) -> Any:
        if isinstance(value, dict):
            return {"".join(f"_{c.lower()}" if c.isupper() else c for c in k): snake(v) for k, v in value.items()}
        return [snake(v) for v in value] if isinstance(value, list) else value

    assert Job.model_validate(snake(FULL)) == Job.model_validate(FULL)


def test_aliases_of_the_platform_are_accepted() -> None:
    job = Job.model_validate(
        {"id": "x", "payload": [{"apiName": "a"}], "configuration": {"maximumConcurrentRequests": 7.0}}
    )
    assert (job.payload[0].api, job.configuration.max_concurrent_requests) == ("a", 7)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"paylod": []}, "paylod: unknown field 'paylod'; did you mean 'payload'?"),
        ({"payload": []}, "payload: List should have at least 1 item"),
        ({"payload": [{"api": "a", "paramters": {}}]}, "payload[0].paramters: unknown field 'paramters'; did you mean"),
        ({"payload": [{"api": "a"}, {"api": 5}]}, "payload[1].api: Input should be a valid string"),
        ({"payload": [{"api": ""}]}, "payload[0].api: String should have at least 1 character"),
        ({"payload": [{"api": "../admin"}]}, "payload[0].api: an API name has no '.' or '..'"),
        ({"payload": [{"api": "a\nb"}]}, "payload[0].api: an API name has no control characters"),
        ({"payload": [7]}, "payload[0]: should be an object"),
        ({"payload": [{"api": "a", "apiName": "b"}]}, "given twice: 'apiName' is the same field as 'api'"),
        ({"payload": [{"api": "a", "parameters": {"x": float("nan")}}]}, "payload[0].parameters: at x: nan is"),
        ({"payload": [{"api": "a", "parameters": {1: 2}}]}, "payload[0].parameters: the key 1 should be a string"),
        ({"payload": [{"api": "a", "requestTimeout": 0}]}, "payload[0].requestTimeout: Input should be greater than 0"),
        ({"id": "no spaces"}, "id: 'no spaces' is not a job id"),
        ({"id": "x" * 201}, "id: "),
        ({"id": 5}, "id: Input should be a valid string"),
        ({"configuration": {"maxConcurrentRequests": True}}, "configuration.maxConcurrentRequests: Input should"),
        ({"configuration": {"maxConcurrentRequests": "5"}}, "configuration.maxConcurrentRequests: Input should"),
        ({"configuration": {"maxRuns": 0}}, "configuration.maxRuns"),
        ({"configuration": {"toleratedFailurePercentage": 101}}, "configuration.toleratedFailurePercentage"),
        ({"sink": {"type": "fax"}}, "sink: needs a 'type' that is one of: webhook, s3"),
        ({"sink": {"type": "webhook", "url": "ftp://x/"}}, "sink.url: should be an absolute URL"),
        ({"sink": {"type": "webhook", "url": "http://a..b/"}}, "sink.url: should be an absolute URL"),
        ({"sink": {"type": "webhook", "url": "http://a/", "headers": {"X": "a\r\nY: b"}}}, "sink.headers: the value"),
        ({"sink": {"type": "webhook", "url": "http://a/", "secret": "no base64"}}, "sink: the webhook secret"),
        ({"sink": {"type": "s3", "bucket": "abc", "accessKeyId": "k"}}, "sink: give both accessKeyId"),
        ({"target": {"type": "http", "path": "{api}"}}, "target.path: a path starts with '/'"),
        ({"target": {"type": "http", "path": "/{app}"}}, "target.path: unknown placeholder {app}"),
        ({"target": {"path": "/{api}/}"}}, "target.path: has a brace that belongs to no {api}"),
        ({"target": {"type": "run-api", "startPath": "/{runId}"}}, "startPath: unknown placeholder {runId}; known"),
        ({"target": {"type": "run-api", "resultPath": "/run"}}, "target.resultPath: names no run; it needs {runId}"),
        ({"target": {"type": "run-api", "cancelPath": "/run/{id}"}}, "cancelPath: unknown placeholder {id}; known"),
        ({"target": {"type": "run-api", "resultPath": "run/{runId}"}}, "target.resultPath: a path starts with '/'"),
        ({"target": {"type": "run-api", "pollInterval": 0}}, "target.pollInterval: a wait of zero"),
        ({"target": {"type": "run-api", "pollInterval": 5, "maxPollInterval": 4}}, "target: maxPollInterval (4 ms) is"),
        ({"target": {"type": "run-api", "sendRunToken": "yes"}}, "target.sendRunToken: Input should be a valid bool"),
        ({"target": {"connid": "x"}}, "target.connid: unknown field 'connid'; did you mean 'connId'?"),
        ({"schedule": {}}, "schedule: the schedule is empty"),
        ({"schedule": {"intervals": [{"every": 0}]}}, "schedule.intervals[0].every: every is 0 ms"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_fault_names_the_field_and_what_would_be_right(change: dict, expected: str) -> None:
    found = faults({**SMALL, **change})
    assert any(expected in fault for fault in found), found


def test_all_faults_are_told_at_once() -> None:
    assert len(faults({"id": "a b", "payload": [], "configuration": {"retry": {"maximumAttempts": 0}}})) == 3


def test_an_items_policy_may_not_contradict_the_jobs() -> None:
    definition = {
        **SMALL,
        "payload": [{"api": "a"}, {"api": "b", "retry": {"maximumInterval": "1s"}}],
        "configuration": {"retry": {"initialInterval": "5s"}},
    }
    assert "payload[1].retry: with the job's own policy: maximumInterval (1 second) is below" in faults(definition)[0]


def test_more_items_than_max_runs_are_refused() -> None:
    definition = {**SMALL, "payload": [{"api": "a"}] * 3, "configuration": {"maxRuns": 2}}
    assert "payload: 3 items are more than maxRuns (2)" in faults(definition)[0]


def test_an_override_is_checked_like_a_definition() -> None:
    configuration = Job.model_validate({**SMALL, "configuration": {"maxRuns": 2}}).configuration
    assert [item.api for item in parse_payload([{"api": "b"}], configuration)] == ["b"]
    for wrong in ([], [{"api": "a"}] * 3, [{"ap": "a"}], "a", None, {"api": "a"}):
        with pytest.raises(ValidationError):
            parse_payload(wrong, configuration)


def test_errors_never_repeat_the_input() -> None:
    definition = {**SMALL, "sink": {"type": "webhook", "url": "http://user:hunter2@", "secret": "hunter2!"}}
    with pytest.raises(ValidationError) as caught:
        Job.model_validate(definition)
    assert "hunter2" not in str(caught.value)


def test_masking_hides_every_secret_and_nothing_else() -> None:
    definition = {
        **SMALL,
        "payload": [{"api": "a", "parameters": {"page": 1, "apiKey": "hunter2", "user": {"password": "hunter2"}}}],
        "sink": {
            "type": "webhook",
            "url": "https://me:hunter2@example.com/hook?sig=hunter2",
            "secret": "hunter2",
            "headers": {"Authorization": "Bearer hunter2"},
        },
        "target": {"headers": {"X-Key": "hunter2"}, "path": "/{api}?api_key=hunter2&v=1"},
        "proxy": "me:hunter2@proxy:8080",
        "auth_session": {"note": "see https://u:hunter2@h/ and jdbc:postgresql://u:hunter2@db/x"},
    }
    before = copy.deepcopy(definition)
    shown = masked(definition)
    assert "hunter2" not in json.dumps(shown)
    assert shown["payload"][0]["parameters"]["page"] == 1
    assert shown["sink"]["url"] == "https://***@example.com/hook?sig=***"
    assert definition == before


def test_an_item_is_named_by_api_and_parameters() -> None:
    assert item_name("list", {"page": 2, "filter": {"a": [1]}}) == 'list page=2 filter={"a":[1]}'
    assert item_name("login", {"user": "me", "password": "hunter2"}) == "login user=me password=***"
    nested = {
        "url": "https://b:hunter2@h/?t=hunter2",
        "auth": {"in": {"password": "hunter2"}},
        "l": [{"token": "hunter2"}],
    }
    assert "hunter2" not in item_name("a", nested)
    assert item_name("mail", {"to": "me@example.com", "q": "a=b"}) == "mail to=me@example.com q=a=b"
    assert item_name("a", {"text": "two\nlines"}) == "a text=two lines"
    assert len(item_name("a", {"text": "x" * 5000})) == 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
field_names = st.sampled_from(
    [
        *FULL,
        *FULL["configuration"],
        *FULL["configuration"]["retry"],
        *FULL["schedule"],
        "api",
        "parameters",
        "type",
        "url",
    ]
)


@given(st.recursive(json_values, lambda inner: st.dictionaries(field_names, inner, max_size=5), max_leaves=25))
def test_any_json_is_accepted_or_refused_with_explained_faults(value: Any) -> None:
    refused = None
    try:
        Job.model_validate(value)
    except ValidationError as error:
        refused = error
    assert refused is None or explain(refused)


def test_the_schema_for_editors_accepts_and_refuses_like_the_models() -> None:
    import jsonschema

    from airflow_jobs_plugin.spec.schema import file_schema

    schema = file_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    assert check.is_valid(FULL)
    assert check.is_valid({"payload": [{"apiName": "a"}], "configuration": {"maximumConcurrentRequests": 2}})
    run_api = {"type": "run-api", "cancelPath": "/run/{runId}/terminate", "pollInterval": "5s", "sendRunToken": True}
    assert check.is_valid({**SMALL, "target": run_api})
    for wrong in (
        {},
        {**SMALL, "target": {"type": "run-api", "resultPath": "/run"}},
        {"payload": []},
        {"payload": [{}]},
        {**SMALL, "paylod": 1},
        {**SMALL, "sink": {"type": "fax"}},
    ):
        assert not check.is_valid(wrong)
