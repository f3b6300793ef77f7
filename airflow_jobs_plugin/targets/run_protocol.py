"""The Run API: the calls that start, ask for and cancel a run, and what the answers mean.

They are those of the platform's own Run API; its published Python client has them as models (``RunStartRequestBody``,
``RunStartResponse``, ``RunResultResponse``).
"""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import quote

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.spec.secrets import secrets_in, secrets_in_url
from airflow_jobs_plugin.spec.targets import RunApiTarget
from airflow_jobs_plugin.targets.answers import extended_payloads
from airflow_jobs_plugin.targets.base import Attempt, Result
from airflow_jobs_plugin.targets.exchange import Answer
from airflow_jobs_plugin.targets.faults import invalid_response
from airflow_jobs_plugin.targets.messages import Redactor, configuration_error, one_line
from airflow_jobs_plugin.targets.request import (
    JSON,
    Call,
    encoded_api,
    grant_headers,
    headers_of,
    json_body,
    located,
)

#: Longest run id, characters.
MAX_RUN_ID = 500
#: Reasons of a canceled run that are somebody's decision.
_DECIDED = ("cancelled-user-action", "terminated", "job-run-terminated")
#: Fields of an authentication session as the Run API spells them.
_SESSION = {
    "auto_recreate": "autoRecreate",
    "check_attempts": "checkAttempts",
    "create_attempts": "createAttempts",
    "request_timeout": "requestTimeout",
    "save_trace": "saveTrace",
    "runtime_input": "runtimeInput",
}


class RunCalls:
    """The calls that an attempt makes. Raises ``AttemptError`` if they cannot be made of what is given."""

    def __init__(self, spec: RunApiTarget, attempt: Attempt) -> None:
        self._spec = spec
        self._attempt = attempt
        self._api = encoded_api(attempt.api)
        self._private = grant_headers(attempt) if spec.send_run_token else {}
        paths = (spec.start_path, spec.result_path, spec.cancel_path or "")
        # Any answer may repeat what came with the start.
        self._hidden = (
            *(secret for path in paths for secret in secrets_in_url(path)),
            *secrets_in(attempt.proxy, "proxy"),
            *secrets_in(attempt.auth_session, "auth_session"),
            *self._private.values(),
        )

    def start(self) -> Call:
        """Starts a run."""
        attempt = self._attempt
        body: dict[str, Any] = {
            "api": attempt.api,
            "parameters": attempt.parameters,
            # Whole seconds there; a run that outlives its attempt serves nobody.
            "requestTimeout": math.ceil(attempt.timeout),
            # The job's policy counts the attempts: one of its attempts is one run, tried once.
            "retry": {"maximumAttempts": 1},
        }
        if (proxy := _proxy(attempt.proxy)) is not None:
            body["proxy"] = proxy
        if attempt.auth_session is not None:
            body["authSession"] = {_SESSION.get(name, name): value for name, value in attempt.auth_session.items()}
        path, query = located(self._spec.start_path, api=self._api)
        headers = headers_of(attempt, JSON)
        return Call("POST", path, query, json_body(body), headers, JSON, self._private, self._hidden)

    def result(self, run_id: str) -> Call:
        """Asks for a run's status, and its result where it has one."""
        path, query = located(self._spec.result_path, api=self._api, runId=quote(run_id, safe=""))
        return Call("GET", path, query, None, headers_of(self._attempt), hidden=self._hidden)

    def cancel(self, run_id: str) -> Call | None:
        """Cancels a run; None where the target does not say how."""
        if self._spec.cancel_path is None:
            return None
        path, query = located(self._spec.cancel_path, api=self._api, runId=quote(run_id, safe=""))
        # The key names the start: a server that knows it would answer as it did to that.
        headers = {name: value for name, value in headers_of(self._attempt).items() if name != "Idempotency-Key"}
        return Call("POST", path, query, None, headers, hidden=self._hidden)


def ended(answer: Answer, run_id: str, call: Call, redact: Redactor) -> Result | None:
    """What an answer to a poll says: a result, or None if the run goes on.

    Raises ``AttemptError``: the run has failed or was canceled, or the answer is none. ``call`` is what was answered.
    """
    body = answer.value if isinstance(answer.value, dict) else {}
    status = body.get("status")
    if status in ("pending", "started"):
        return None
    code = _status_code(body)
    if status == "completed":
        return Result(body.get("result"), code or answer.status, extended_payloads(body))
    if status == "failed":
        told = one_line(redact(_told(body, "error")), 1000)
        raise AttemptError("run-failed", f"the run {run_id} failed{told}", status_code=code)
    if status == "canceled":
        reason = body.get("reason")
        decided = isinstance(reason, dict) and reason.get("type") in _DECIDED
        told = one_line(redact(_told(body, "reason")), 1000)
        text = f"the run {run_id} was canceled{told}"
        raise AttemptError("run-canceled", text, status_code=code, retriable=not decided)
    found = f"not {one_line(redact(repr(status)), 60)}" if "status" in body else "and there is none"
    raise invalid_response(
        f"GET {call.path}: the field 'status' should be pending, started, completed, failed or canceled, {found}",
        answer.status,
    )


def run_id_in(answer: Any) -> str | None:
    """The run's id in an answer or a memory; None if there is none that a path can carry."""
    found = answer.get("runId") if isinstance(answer, dict) else None
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str) or found in (".", ".."):
        return None
    return found if 0 < len(found) <= MAX_RUN_ID and found.isprintable() else None


def _status_code(body: dict[str, Any]) -> int | None:
    code = body.get("statusCode")
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def _told(body: dict[str, Any], part: str) -> str:
    """What a run's ``error`` or ``reason`` says, as ``: code: message``; empty if nothing."""
    about = body.get(part)
    if isinstance(about, str):
        about = {"message": about}
    about = about if isinstance(about, dict) else {}
    words = [about.get("code") or about.get("type"), about.get("message") or body.get("message")]
    return "".join(f": {word}" for word in words if isinstance(word, str))


def _proxy(proxy: str | dict[str, Any] | None) -> str | None:
    """The job's proxy as the Run API takes it: a URL. It is the run's; the calls go by the connection's."""
    url = proxy.get("url") if isinstance(proxy, dict) else proxy
    if proxy and not isinstance(url, str):
        raise configuration_error("the job's proxy should be a URL, or an object with the text 'url'")
    return url or None
