from __future__ import annotations

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control.appending import append
from airflow_jobs_plugin.errors import ConflictError


def test_a_database_without_row_locks_is_refused_with_the_reason() -> None:
    with Session(create_engine("sqlite://")) as session, pytest.raises(ConflictError, match="no row locks") as caught:
        append(session, "prices", "manual__1", [{"api": "a"}], key="k")
    assert caught.value.code == "database-unsuitable"


def test_the_locks_that_an_append_takes_are_sql_that_mysql_knows() -> None:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import select
    from sqlalchemy.dialects import mysql

    for model in (DagRun, TaskInstance, XComModel):
        text = str(select(model.run_id).with_for_update(of=model).compile(dialect=mysql.dialect()))
        assert text.rstrip().endswith(f"FOR UPDATE OF {model.__tablename__}")
