"""Definitions share Variables: two writers at once lose neither's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.models.base import Base
from airflow.models.variable import Variable
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import buckets, variables
from airflow_jobs_plugin.control.transactions import Overtaken
from airflow_jobs_plugin.store.variables import Record, Revision, bucket_of

A = "a"
B, C = [name for name in map(str, range(10_000)) if bucket_of(name) == bucket_of(A)][:2]
NOW = "2026-11-25T00:00:00+00:00"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/airflow.db")
    Base.metadata.create_all(engine, tables=[Variable.__table__])
    yield engine
    engine.dispose()


def put(session: Session, kept: buckets.Kept, job_id: str) -> None:
    kept.bucket.jobs[job_id] = Record(1, NOW, NOW, {1: Revision({"payload": [{"api": "x"}]}, True)})
    kept.secrets[job_id] = {"1": [(["target"], "secret")]}
    buckets.write(session, kept)
    session.commit()


def jobs(engine: Engine) -> set[str]:
    with Session(engine) as session:
        kept = buckets.read(session, A)
        assert set(kept.secrets) == set(kept.bucket.jobs)
        return set(kept.bucket.jobs)


def test_two_that_make_the_first_definition_of_a_bucket_are_told(engine: Engine) -> None:
    with Session(engine) as slow, Session(engine) as quick:
        read = buckets.read(slow, A, lock=True)
        put(quick, buckets.read(quick, B, lock=True), B)
        with pytest.raises(IntegrityError):
            put(slow, read, A)
        slow.rollback()
        put(slow, buckets.read(slow, A, lock=True), A)
    assert jobs(engine) == {A, B}


def test_nobody_writes_over_what_has_changed_meanwhile(engine: Engine) -> None:
    with Session(engine) as slow, Session(engine) as quick:
        put(quick, buckets.read(quick, A, lock=True), A)
        read = buckets.read(slow, B, lock=True)
        slow.commit()  # as on SQLite, which locks nothing
        put(quick, buckets.read(quick, C, lock=True), C)
        with pytest.raises(Overtaken):
            put(slow, read, B)
        slow.rollback()
        put(slow, buckets.read(slow, B, lock=True), B)
    assert jobs(engine) == {A, B, C}


def test_what_is_removed_is_what_was_read(engine: Engine) -> None:
    with Session(engine) as session:
        variables.write(session, "k", "one", None)
        session.commit()
        before = variables.read(session, ["k"])["k"]
        variables.write(session, "k", "two", before)
        session.commit()
        with pytest.raises(Overtaken):
            variables.write(session, "k", None, before)
        variables.write(session, "k", None, variables.read(session, ["k"])["k"])
        session.commit()
        assert variables.read(session, ["k"]) == {}
