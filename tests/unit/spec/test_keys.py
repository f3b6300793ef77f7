from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_jobs_plugin.spec import Job, S3Sink, explain
from airflow_jobs_plugin.spec.keys import OF_ITEM, OF_RUN, check_key, check_prefix, fill

NAMES = {"jobId": "nightly", "jobRunId": "manual__2026-01-01T00:00:00+00:00", "date": "2026-01-01", "time": "000102",
         "type": "MANUAL", "status": "SUCCESS", "index": "3", "itemId": "b7", "api": "shop/list"}  # fmt: skip


def sink(**fields: Any) -> S3Sink:
    return S3Sink.model_validate({"type": "s3", "bucket": "results", **fields})


def fault(**fields: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Job.model_validate({"id": "x", "payload": [{"api": "a"}], "sink": {"type": "s3", "bucket": "abc", **fields}})
    (found,) = explain(caught.value)  # type: ignore[arg-type]
    return str(found)


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({}, "nightly/manual__2026-01-01T00%3A00%3A00%2B00%3A00.json"),
        ({"format": "jsonl"}, "nightly/manual__2026-01-01T00%3A00%3A00%2B00%3A00.jsonl"),
        ({"prefix": "a/b"}, "a/b/nightly/manual__2026-01-01T00%3A00%3A00%2B00%3A00.json"),
        ({"prefix": "a/{date}/"}, "a/2026-01-01/nightly/manual__2026-01-01T00%3A00%3A00%2B00%3A00.json"),
        ({"prefix": ""}, "nightly/manual__2026-01-01T00%3A00%3A00%2B00%3A00.json"),
        ({"delivery": "payload", "prefix": "a"}, "a/nightly/manual__2026-01-01T00%3A00%3A00%2B00%3A00/3.json"),
        ({"delivery": "payload", "format": "jsonl", "prefix": "{api}"},
         "shop%2Flist/nightly/manual__2026-01-01T00%3A00%3A00%2B00%3A00/3.jsonl"),
        ({"key": "latest.json"}, "latest.json"),
        ({"key": "{jobId}-{type}-{status}/{date}T{time}Z"}, "nightly-MANUAL-SUCCESS/2026-01-01T000102Z"),
        ({"delivery": "payload", "key": "{itemId}/{api}.json"}, "b7/shop%2Flist.json"),
        ({"key": "größe/…/{jobId}"}, "größe/…/nightly"),
    ],
    ids=str,
)  # fmt: skip
def test_every_key_says_whose_it_is(fields: dict[str, Any], key: str) -> None:
    assert fill(sink(**fields).key_template, NAMES) == key


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"key": "{jobRunID}.json"}, "sink.key: unknown placeholder {jobRunID}; did you mean 'jobRunId'? known here: "
         "{jobId}, {jobRunId}, {date}, {time}, {type}, {status}"),
        ({"key": "{year}/x"}, "sink.key: unknown placeholder {year}; known here: {jobId}, {jobRunId}, {date}"),
        ({"prefix": "{jobid}"}, "sink.prefix: unknown placeholder {jobid}; did you mean 'jobId'?"),
        ({"key": "{index}"}, "{index} is known with delivery: payload"),
        ({"key": "{}"}, "unknown placeholder {}"),
        ({"key": "a{b"}, "sink.key: has a brace that belongs to no placeholder"),
        ({"key": "{{jobId}}"}, "sink.key: has a brace that belongs to no placeholder"),
        ({"key": "/a"}, "sink.key: begins with '/'"),
        ({"prefix": "/"}, "sink.prefix: begins with '/'"),
        ({"key": "a/../b"}, "sink.key: has '.' or '..'"),
        ({"key": "./a"}, "sink.key: has '.' or '..'"),
        ({"prefix": "a/.."}, "sink.prefix: has '.' or '..'"),
        ({"prefix": "../"}, "sink.prefix: has '.' or '..'"),
        ({"key": "a//b"}, "sink.key: has '//'"),
        ({"key": "{jobId}/"}, "sink.key: ends with '/'"),
        ({"key": "a\nb"}, "sink.key: has control characters"),
        ({"key": "a\x7fb"}, "sink.key: has control characters"),
        ({"prefix": "a\\..\\b"}, "sink.prefix: has control characters or a backslash"),
        ({"key": "ä" * 600}, "sink.key: is longer than the 1024 bytes"),
        ({"key": "{api}", "delivery": "payload"}, "sink.key: needs {index} or {itemId}"),
        ({"key": "{jobRunId}", "delivery": "payload"}, "would overwrite each other"),
        ({"key": "a", "prefix": "b"}, "sink: give key or prefix, not both"),
        ({"bucket": "Results"}, "sink.bucket: should be a bucket's name"),
        ({"bucket": "-ab"}, "sink.bucket: should be a bucket's name"),
        ({"bucket": "a/../b"}, "sink.bucket: should be a bucket's name"),
        ({"bucket": "a..b"}, "sink.bucket: is no bucket's name"),
        ({"bucket": "10.0.0.1"}, "sink.bucket: is no bucket's name"),
        ({"bucket": "xn--abc"}, "sink.bucket: is no bucket's name"),
        ({"bucket": "a" * 64}, "sink.bucket"),
        ({"region": "eu-1.evil.example/"}, "sink.region"),
        ({"endpoint": "ftp://s3.example"}, "sink.endpoint: should be an absolute URL"),
        ({"endpoint": "https://key:hunter2@s3.example"}, "sink.endpoint: should be the store's URL alone"),
        ({"endpoint": "https://s3.example/?x=1"}, "sink.endpoint: should be the store's URL alone"),
    ],
    ids=str,
)  # fmt: skip
def test_what_could_leave_its_place_is_refused(fields: dict[str, Any], said: str) -> None:
    assert said in (found := fault(**fields))
    assert "hunter2" not in found


@pytest.mark.parametrize("bucket", ["abc", "a.b-c.1", "1-2", "a" * 63, "point-1234-s3alias", "dir--use1-az4--x-s3"])
def test_names_of_buckets_and_of_their_aliases(bucket: str) -> None:
    assert sink(bucket=bucket).bucket == bucket


def test_a_key_that_is_too_long_when_filled_says_so() -> None:
    with pytest.raises(ValueError, match="would have 1200 bytes, and 1024 are the most"):
        fill("{jobRunId}", {"jobRunId": "+" * 400})
    with pytest.raises(ValueError, match=r"needs a value for \{index\}"):
        fill("{index}", {})


pieces = st.lists(
    st.sampled_from(["a", ".", "..", "/", "-", "b c", "ö", *(f"{{{name}}}" for name in OF_RUN + OF_ITEM)]), max_size=9
)
values = st.text(max_size=12) | st.sampled_from([".", "..", "...", "/", "../..", "//", "\0", "%2F", "{jobId}", ""])


@given(pieces, st.lists(values, min_size=9, max_size=9))
def test_no_value_leads_a_key_out_of_its_place(parts: list[str], filled: list[str]) -> None:
    template = "".join(parts)
    try:
        check_key(template, of_item=True)
    except ValueError:
        return
    key = fill(template, dict(zip(OF_RUN + OF_ITEM, filled, strict=True)))
    assert key.startswith(template.partition("{")[0]), "the literal beginning stays"
    assert key.count("/") == template.count("/"), "a value is within one segment"
    assert not {"", ".", ".."} & set(key.split("/"))
    assert key.isprintable()
    assert "{" not in key


@given(pieces, values)
def test_keys_below_a_prefix_stay_below_it(parts: list[str], value: str) -> None:
    prefix = "".join(parts)
    try:
        check_prefix(prefix, of_item=False)
    except ValueError:
        return
    template = sink(prefix=prefix).key_template
    key = fill(template, dict.fromkeys(OF_RUN, value))
    assert key.startswith(prefix.partition("{")[0])
    assert not {"", ".", ".."} & set(key.split("/"))


@given(values, values)
def test_different_values_make_different_keys(one: str, other: str) -> None:
    keys = [fill("{jobId}.json", {"jobId": value}) for value in (one, other)]
    # Nothing at all, and half of a surrogate pair, are no names of anything.
    if one != other and {one, other}.isdisjoint({"", "_", "?"}) and one.isprintable() and other.isprintable():
        assert keys[0] != keys[1]
