from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_jobs_plugin.errors import JobFileError
from airflow_jobs_plugin.spec.writeonly import split
from airflow_jobs_plugin.store import AllJobs, JobFiles, JobVariables
from airflow_jobs_plugin.store.variables import DEFINITIONS, SECRETS, Bucket, Record, Revision, bucket_of

NOW = "2026-11-24T00:00:00+00:00"
WORK: dict[str, Any] = {"payload": [{"api": "a"}]}


class Variables:
    """Airflow's Variables as a parse and a worker see them, and what was read."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.read: list[str] = []

    def put(self, job_id: str, *definitions: dict[str, Any]) -> None:
        name = bucket_of(job_id)
        bucket = Bucket.decode(self.texts.get(DEFINITIONS + name))
        secrets = json.loads(self.texts.get(SECRETS + name, "{}"))
        record = Record(len(definitions), NOW, NOW, {})
        for number, definition in enumerate(definitions, 1):
            public, hidden = split(definition)
            record.revisions[number] = Revision(public, bool(hidden), None if number == len(definitions) else NOW)
            if hidden:
                secrets.setdefault(job_id, {})[str(number)] = hidden
        bucket.jobs[job_id] = record
        self.texts[DEFINITIONS + name] = bucket.encode()
        self.texts[SECRETS + name] = json.dumps(secrets)

    def store(self) -> JobVariables:
        def get(key: str) -> str | None:
            self.read.append(key)
            return self.texts.get(key)

        return JobVariables(get, lambda prefix: [key for key in self.texts if key.startswith(prefix)])


def with_header(value: str) -> dict[str, Any]:
    return {**WORK, "target": {"headers": {"X": value}}}


def test_a_worker_reads_one_job_with_its_secrets() -> None:
    variables = Variables()
    variables.put("one", with_header("hunter2"))
    for n in range(100):
        variables.put(f"other-{n}", with_header("hunter3"))
    found = variables.store().load("one")
    assert found is not None
    assert found.job.target.headers == {"X": "hunter2"}  # type: ignore[union-attr]
    assert (found.source, found.revision) == ("API", 1)
    assert variables.read == [DEFINITIONS + bucket_of("one"), SECRETS + bucket_of("one")]
    assert variables.store().load("nobody") is None


def test_a_parse_reads_a_handful_and_no_secrets() -> None:
    variables = Variables()
    for n in range(1000):
        variables.put(f"job-{n}", with_header("hunter2"))
    loaded = variables.store().load_all()
    assert len(loaded.jobs) == 1000
    assert not loaded.faults
    assert len(variables.read) <= 32
    assert not any(key.startswith(SECRETS) for key in variables.read)
    assert "hunter2" not in str(loaded.jobs)
    sizes = Counter(bucket_of(f"job-{n}") for n in range(1000))
    assert max(sizes.values()) < 3 * 1000 / 32, "evenly spread"


def test_a_run_finds_the_revision_that_it_was_planned_with() -> None:
    variables = Variables()
    variables.put("revised", with_header("old"), with_header("new"))
    found = variables.store().load("revised")
    assert found is not None
    assert found.job.target.headers == {"X": "new"}  # type: ignore[union-attr]
    assert {n: job.target.headers for n, job in found.earlier.items()} == {1: {"X": "old"}}  # type: ignore[union-attr]


def test_secrets_of_another_revision_are_not_mixed_in() -> None:
    variables = Variables()
    variables.put("torn", with_header("old"))
    old = variables.texts[SECRETS + bucket_of("torn")]
    variables.put("torn", with_header("old"), with_header("new"))
    variables.texts[SECRETS + bucket_of("torn")] = old
    with pytest.raises(JobFileError, match="do not belong to its definition"):
        variables.store().load("torn")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"jobs": []}', '{"jobs": {"x": {}}}'])
def test_a_variable_that_somebody_has_edited_costs_its_own_jobs(text: str) -> None:
    variables = Variables()
    variables.put("fine", WORK)
    variables.texts[DEFINITIONS + "zz"] = text
    loaded = variables.store().load_all()
    assert [stored.job.id for stored in loaded.jobs] == ["fine"]
    assert list(loaded.faults) == ([DEFINITIONS + "zz"] if text else [])


def test_of_two_with_one_id_the_file_named_after_it_wins_then_the_rest_api(tmp_path: Path) -> None:
    variables = Variables()
    for job_id in ("named", "inside", "only"):
        variables.put(job_id, {"payload": [{"api": "rest"}]})
    (tmp_path / "named.job.json").write_text(json.dumps({"payload": [{"api": "file"}]}))
    (tmp_path / "x.job.json").write_text(json.dumps({"id": "inside", "payload": [{"api": "file"}]}))
    (tmp_path / "y.job.json").write_text(json.dumps({"id": "plain", "payload": [{"api": "file"}]}))
    store = AllJobs(JobFiles(tmp_path), variables.store())
    loaded = store.load_all()
    expected = {"named": "file", "inside": "rest", "only": "rest", "plain": "file"}
    assert {stored.job.id: stored.job.payload[0].api for stored in loaded.jobs} == expected
    assert len(loaded.faults) == 2
    for job_id, api in expected.items():
        found = store.load(job_id)
        assert found is not None
        assert found.job.payload[0].api == api, job_id


def test_variables_that_cannot_be_read_cost_no_file_its_job(tmp_path: Path) -> None:
    def unreadable(prefix: str) -> list[str]:
        raise ConnectionError("no API server")

    (tmp_path / "one.job.json").write_text(json.dumps(WORK))
    loaded = AllJobs(JobFiles(tmp_path), JobVariables(keys=unreadable)).load_all()
    assert [stored.job.id for stored in loaded.jobs] == ["one"]
    assert "no API server" in str(loaded.faults["Variables"][0])
