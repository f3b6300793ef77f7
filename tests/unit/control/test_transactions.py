from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.utils import sqlalchemy as of_airflow
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control.transactions import locks_rows


def session_on(url: str, **of_dialect: Any) -> Session:
    """A session as it would be on a database that nobody connects to."""
    # SQLAlchemy asks a driver for its style of parameters alone, as long as nothing is executed.
    engine = create_engine(url, module=SimpleNamespace(paramstyle="pyformat", __version__="2.9.10"))
    for name, value in of_dialect.items():
        setattr(engine.dialect, name, value)
    return Session(engine)


@pytest.mark.parametrize(
    ("url", "of_dialect", "locks"),
    [
        ("postgresql+psycopg2://", {}, True),
        ("mysql+mysqldb://", {"supports_for_update_of": True}, True),  # as SQLAlchemy finds MySQL 8 when it connects
        ("mysql+mysqldb://", {"supports_for_update_of": False}, False),  # MariaDB, and older MySQL
    ],
)
def test_whether_the_scheduler_locks_rows_is_known(url: str, of_dialect: dict[str, Any], locks: bool) -> None:
    with session_on(url, **of_dialect) as session:
        assert locks_rows(session) is locks


def test_sqlite_has_no_row_locks() -> None:
    with Session(create_engine("sqlite://")) as session:
        assert not locks_rows(session)


def test_locking_may_be_switched_off_in_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    # What Airflow has read from `[scheduler] use_row_level_locking` when it was imported.
    monkeypatch.setattr(of_airflow, "USE_ROW_LEVEL_LOCKING", False)
    with session_on("postgresql+psycopg2://") as session:
        assert not locks_rows(session)
