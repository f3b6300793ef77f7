"""The key of run tokens: made once, kept in a Variable, read by workers and by the server."""

from __future__ import annotations

import secrets

from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import variables
from airflow_jobs_plugin.run.tokens import VARIABLE, Permit, verify


def ensure_key(session: Session) -> None:
    """Make the key if there is none. For the start of a component."""
    if not variables.read(session, [VARIABLE]):
        variables.write(session, VARIABLE, secrets.token_urlsafe(32), None)
        session.flush()


def permit_of(session: Session, token: str) -> Permit | None:
    """What a run token allows; None if it is not valid, or not any more."""
    key = variables.read(session, [VARIABLE]).get(VARIABLE)
    return verify(key.text, token) if key else None
