"""Work on Airflow's database in one transaction, tried again where others were quicker."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError, PendingRollbackError
from sqlalchemy.orm import Session

T = TypeVar("T")

#: Tries before a conflict is reported.
TRIES = 6
#: SQLSTATE of serialization failures and deadlocks on PostgreSQL; error numbers of MySQL; SQLite says it in words.
_PASSING = ("40001", "40P01", "55P03")
_PASSING_NUMBERS = (1205, 1213)


class Overtaken(Exception):
    """Another writer has changed what this transaction has read; tried again, it finds the new state."""


def transact(work: Callable[[Session], T]) -> T:
    """Call ``work`` with a session and commit; again, with a new session, after a conflict with another writer.

    What ``work`` raises otherwise is raised, and nothing of what it did is kept.
    """
    from airflow.utils.session import create_session

    for left in reversed(range(TRIES)):
        try:
            with create_session(scoped=False) as session:
                return work(session)
        except (Overtaken, PendingRollbackError):
            # The second: Airflow's own code met a conflict within this transaction, logged it and went on.
            if not left:
                raise
        except DBAPIError as error:
            if not left or not _passes(error):
                raise
        time.sleep(random.uniform(0.01, 0.05) * (TRIES - left))
    raise AssertionError("not reached")


def locks_rows(session: Session) -> bool:
    """Whether Airflow's scheduler locks the rows of the runs that it decides about, so that nothing changes meanwhile.

    Not on SQLite, MariaDB and MySQL before 8.0, nor with ``[scheduler] use_row_level_locking`` off.
    """
    from airflow.models.dagrun import DagRun
    from airflow.utils.sqlalchemy import with_row_locks

    # The statement as this database gets it: the first knows Airflow's configuration, the second leaves out on SQLite
    # what Airflow has asked for.
    asked = with_row_locks(select(DagRun.id), session, of=DagRun)
    return re.search(r"\bFOR (NO KEY )?UPDATE\b", str(asked.compile(dialect=session.get_bind().dialect))) is not None


@contextmanager
def reading() -> Iterator[Session]:
    """A session for reading piece by piece, over as long as it takes."""
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        yield session


def _passes(error: DBAPIError) -> bool:
    if isinstance(error, IntegrityError):
        # Two made the same row; the second try finds it.
        return True
    cause = error.orig
    code = getattr(cause, "pgcode", None) or getattr(cause, "sqlstate", None)
    number = cause.args[0] if cause is not None and cause.args else None
    return code in _PASSING or number in _PASSING_NUMBERS or "database is locked" in str(cause)
