from __future__ import annotations

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control.appending import append
from airflow_jobs_plugin.errors import ConflictError


def test_a_database_without_row_locks_is_refused_with_the_reason() -> None:
    with Session(create_engine("sqlite://")) as session, pytest.raises(ConflictError, match="locks no rows") as caught:
        append(session, "prices", "manual__1", [{"api": "a"}], key="k")
    assert caught.value.code == "database-unsuitable"
