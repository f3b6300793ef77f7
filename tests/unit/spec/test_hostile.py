"""What fuzzing (``tests.fuzz``) has found in the models: each of these once went wrong."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.spec import HttpTarget, Job, explain, masked, plugins, secrets
from airflow_jobs_plugin.spec.base import check_json
from airflow_jobs_plugin.targets.base import Attempt
from airflow_jobs_plugin.targets.request import build_call

LONG = "x" * 100_000


def faults(**fields: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Job.model_validate({"id": "x", "payload": [{"api": "a"}], **fields})
    return [str(fault) for fault in explain(caught.value)]


@pytest.mark.parametrize(
    "fields",
    [
        {LONG: 1},
        {"a\nb\x1b[31m\u202e": 1},
        {"configuration": {"retry\0": 1}},
        {"payload": [{"api": "a", "parameters": {LONG: {"a\nb": float("nan")}}}]},
        {"payload": [{"api": "a", "parameters": {10**4000: 1}}]},
        {"schedule": {"intervals": [{"every": "1d"}], "timezone": LONG}},
        {"schedule": {"intervals": [{"every": "1d"}], "startAt": LONG}},
        {"schedule": {"calendars": [{"hour": LONG}]}},
        {"schedule": {"calendars": [{"hour": [[LONG]]}]}},
        {"schedule": {"calendars": [{"month": LONG}]}},
        {"schedule": {"calendars": [{"hour": 10**4000}]}},
        {"schedule": {"calendars": [{"hour": {"start": 1, LONG: 1}}]}},
        {"schedule": {"calendars": [{"hour": {"start": 1, "end": 5, "step": 10**4000}}]}},
        {"schedule": {"calendars": [{"hour": {"start": 1, "step": LONG}}]}},
        {"target": {"type": "http", "headers": {LONG + "\r": "1"}}},
        {"target": {"type": "http", "headers": {"X" * 90_000: "\r"}}},
        {"target": {"type": "http", "path": "/{a\x1b" + "b" * 900 + "}"}},
        {"sink": {"type": "s3", "bucket": "abc", "key": "{a\x1b" + "b" * 900 + "}"}},
    ],
    ids=lambda fields: repr(fields)[:50],
)  # fmt: skip
def test_a_message_can_be_printed_and_repeats_little_of_what_it_is_about(fields: dict[str, Any]) -> None:
    for message in faults(**fields):
        assert message.isprintable()
        assert len(message) < 1000


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"proxy": "http://u:p@h\0"}, "proxy: has control characters"),
        ({"proxy": "http://user:pass word@h"}, "proxy: is not a URL such as"),
        ({"proxy": {"url": "http://user:pa/ss@h"}}, "proxy: is not a URL such as"),
        ({"proxy": "http:/x/user:password@h:3128"}, "proxy: is not a URL such as"),
        ({"sink": {"type": "webhook", "url": "https://[v1.x]/"}}, "sink.url: should be an absolute URL"),
        ({"configuration": {"proxy": "://"}}, "configuration.proxy: is not a URL such as"),
        ({"notifications": [{"type": "\0", "url": "http://a"}]}, "notifications[0].type: has control characters"),
        (
            {"schedule": {"calendars": [{"comment": "\x1b[2J"}]}},
            "schedule.calendars[0].comment: has control characters",
        ),
        ({"target": {"type": "http", "connId": "a/../b"}}, "target.connId: is not the id of a connection"),
        ({"target": {"type": "http", "connId": "../variables/x"}}, "target.connId: is not the id of a connection"),
        ({"target": {"type": "run-api", "connId": "a\n"}}, "target.connId: is not the id of a connection"),
        ({"target": {"type": "http", "connId": "a?b"}}, "target.connId: is not the id of a connection"),
        (
            {"sink": {"type": "s3", "bucket": "abc", "connId": "..\\x"}},
            "sink.connId: is not the id of a connection",
        ),
        (
            {"sink": {"type": "s3", "bucket": "abc", "accessKeyId": "a\r\nX: y", "secretAccessKey": "b"}},
            "sink.accessKeyId: has control characters",
        ),
        ({"target": {"type": "http", "path": "/%2e%2E/{api}"}}, "target.path: has '.' or '..' as a path segment"),
        ({"sink": {"type": "webhook", "url": "http://xn--a-ecp.ru/"}}, "sink.url: should be an absolute URL"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_what_would_only_fail_or_leave_its_place_later_is_refused(fields: dict[str, Any], message: str) -> None:
    assert [fault for fault in faults(**fields) if fault.startswith(message)]


def test_a_default_that_depends_on_what_is_wrong_is_no_fault_of_its_own() -> None:
    assert [fault.partition(":")[0] for fault in faults(target={"type": "run-api", "pollInterval": 0})] == [
        "target.pollInterval"
    ]


def test_a_long_key_over_a_long_list_costs_no_memory_for_each_value() -> None:
    before = time.process_time()
    check_json({"k" * 1_000_000: [0] * 100_000})
    assert time.process_time() - before < 2


@pytest.mark.parametrize("sign", ["?", "&", ";", "&a"])
def test_a_text_of_signs_is_masked_at_once(sign: str) -> None:
    before = time.process_time()
    masked({"note": sign * 100_000 + "?", "more": "=" + sign * 100_000})
    assert time.process_time() - before < 2
    assert masked("https://a/??k=secret&?l=secret;m=secret") == "https://a/??k=***&?l=***;m=***"


def test_what_is_asked_for_is_not_kept_for_ever() -> None:
    kept = secrets._is_sensitive.cache_info().currsize
    assert secrets.is_sensitive(LONG + "password")
    assert not secrets.is_sensitive(LONG)
    assert secrets._is_sensitive.cache_info().currsize == kept
    before = plugins._loaded.cache_info().currsize
    assert plugins.sink_class(LONG) is None
    assert plugins._loaded.cache_info().currsize == before


@pytest.mark.parametrize(("path", "api"), [("/.{api}", "/x"), ("/..{api}/y", "/x"), ("/a/{api}.", "x/")])
def test_template_and_name_together_do_not_walk_up_the_path(path: str, api: str) -> None:
    attempt = Attempt("j", "r", 0, 1, "i", api, {}, 1.0)
    with pytest.raises(AttemptError, match="the API name makes '.' or '..' a segment") as caught:
        build_call(HttpTarget(path=path), attempt)
    assert not caught.value.retriable
