"""Every error of the REST API in one shape."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from airflow_jobs_plugin.api.shapes import Answer
from airflow_jobs_plugin.control.definitions import InvalidDefinition
from airflow_jobs_plugin.errors import DefinitionError, RequestError
from airflow_jobs_plugin.service.statuses import status_of
from airflow_jobs_plugin.spec.faults import dotted, printable

log = logging.getLogger(__name__)

_CATEGORIES = {
    400: ("bad-request", "validation"),
    401: ("not-authenticated", "authentication"),
    403: ("not-authorized", "authorization"),
    404: ("not-found", "not-found"),
    405: ("method-not-allowed", "validation"),
    409: ("conflict", "conflict"),
    411: ("length-required", "validation"),
    412: ("changed", "conflict"),
    413: ("too-large", "validation"),
    415: ("unsupported-media-type", "validation"),
    422: ("invalid", "validation"),
}


#: Errors that may be over later.
_PASSING = ("job-not-ready", "job-paused", "run-not-planned")


class InvalidRequest(Exception):
    """A request is wrong: ``details`` are places and what would be right there."""

    def __init__(self, details: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {text}" if path else text for path, text in details))
        self.details = details


class ErrorDetail(Answer):
    """One fault of a request."""

    path: str = Field(description="Where in the request; empty: as a whole.", examples=["payload[3].retry"])
    message: str = Field(description="What is wrong, and what would be right.")


class ErrorBody(Answer):
    """What every error answers with."""

    code: str = Field(description="A stable short name.", examples=["job-paused"])
    category: str = Field(description="What kind of error it is.", examples=["conflict"])
    message: str = Field(description="For people.")
    details: list[ErrorDetail] = Field(default_factory=list, description="The single faults, where there are any.")
    correlationId: str = Field(description="One for each error; that of an internal error is in the server's log.")
    retirable: bool = Field(description="Whether the same request may succeed later.")


def answer(
    status: int,
    message: str,
    *,
    code: str | None = None,
    details: list[tuple[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """An error of that status."""
    default, category = _CATEGORIES.get(
        status, ("error", "validation") if status < 500 else ("internal-error", "internal")
    )
    body = ErrorBody(
        code=code or default,
        category=category,
        message=_text(message),
        details=[ErrorDetail(path=_text(path), message=_text(text)) for path, text in details or []],
        correlationId=str(uuid.uuid4()),
        retirable=status >= 500 or code in _PASSING,
    )
    return JSONResponse(body.model_dump(), status, headers)


def _text(text: str) -> str:
    """The text as JSON can carry it: names that a client made up may have halves of surrogate pairs."""
    return text.encode(errors="backslashreplace").decode()


def install(app: FastAPI) -> None:
    """Have the app answer with ``ErrorBody`` to everything that goes wrong."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(InvalidRequest, _wrong)
    app.add_exception_handler(DefinitionError, _definition)
    app.add_exception_handler(RequestError, _request)
    app.add_exception_handler(Exception, _unexpected)


def _http(request: Request, error: Any) -> JSONResponse:
    headers = dict(error.headers or {})
    if error.status_code == 405:
        allowed = ", ".join(_methods(request))
        return answer(405, f"{request.method} does nothing here; known are: {allowed}", headers={"Allow": allowed})
    if error.status_code == 404 and error.detail == "Not Found":
        return answer(404, f"there is nothing at {_path(request)}; {_docs(request)} says what there is")
    return answer(error.status_code, str(error.detail), headers=headers)


def _methods(request: Request) -> list[str]:
    """The methods of the path that was asked for. Starlette names those of the first route with it alone."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in routes if route.path == routes[0].path for method in route.methods})


def _path(request: Request) -> str:
    """The path as messages and logs repeat it: decoded, it may have ends of lines."""
    return printable(request.url.path, 300)


def _docs(request: Request) -> str:
    return f"{request.scope.get('root_path', '').rstrip('/')}/docs"


def _invalid(request: Request, error: Any) -> JSONResponse:
    lines = error.errors()
    if any(line["type"] == "json_invalid" for line in lines):
        return answer(400, f"the body is not JSON: {lines[0].get('ctx', {}).get('error', '')}".rstrip(": "))
    wrong = InvalidRequest(
        [(dotted(tuple(line["loc"][1:])), line["msg"].removeprefix("Value error, ")) for line in lines]
    )
    return _wrong(request, wrong)


def _wrong(request: Request, error: Any) -> JSONResponse:
    return answer(422, str(error), details=error.details)


def _definition(request: Request, error: Any) -> JSONResponse:
    if isinstance(error, InvalidDefinition):
        details = [(dotted(fault.path), fault.message) for fault in error.faults]
        return answer(422, str(error), code="invalid-definition", details=details)
    return answer(422, str(error), code="invalid-definition")


def _request(request: Request, error: Any) -> JSONResponse:
    return answer(status_of(error), str(error), code=error.code)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    response = answer(500, "something went wrong in the server; its log has the correlationId")
    log.error("%s %s failed: %s", request.method, _path(request), bytes(response.body).decode(), exc_info=error)
    return response


#: What an error of that status means, for the documentation.
_MEANINGS = {
    400: "The body cannot be read.",
    401: "Nobody is logged in, or the token is not valid or has expired.",
    403: "The caller may not do this.",
    404: "There is no such job, run or item.",
    409: "Not in the state that the job or run is in. `code` says why: `job-exists`, `job-is-code`, "
    "`job-has-active-runs`, `job-paused`, `job-not-ready`, `idempotency-key-reused`, and of an append "
    "`run-not-planned`, `run-closing`, `run-ended`, `too-many-items`, `too-deep`, `database-unsuitable`, of a "
    "redelivery `run-active`, `run-terminated`, `nothing-to-deliver`, `no-sink`.",
    411: "A body without a length.",
    412: "Somebody has changed the job meanwhile.",
    413: "The body is too large.",
    415: "A body that is not JSON.",
    422: "The request is wrong; `details` says where and what would be right.",
}
_EXAMPLES: dict[int, tuple[str, str, list[tuple[str, str]]]] = {
    401: ("not-authenticated", "Not authenticated", []),
    404: ("job-not-found", "there is no job 'nightly-prices'", []),
    409: ("job-paused", "the job 'nightly-prices' is paused; resume it first", []),
    412: ("job-changed", "'nightly-prices' is no longer what If-Match names; read it again", []),
    422: (
        "invalid-definition",
        "payload[0].paramters: unknown field 'paramters'; did you mean 'parameters'?",
        [("payload[0].paramters", "unknown field 'paramters'; did you mean 'parameters'?")],
    ),
}
_AUTHENTICATE = {
    "WWW-Authenticate": {"description": "How to say who one is.", "required": True, "schema": {"type": "string"}}
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its documentation; those that every route has are among them."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({401, 403, 411, 413, 422, *statuses}):
        code, message, details = _EXAMPLES.get(status, (_CATEGORIES[status][0], _MEANINGS[status], []))
        example = {
            "code": code,
            "category": _CATEGORIES[status][1],
            "message": message,
            "details": [{"path": path, "message": text} for path, text in details],
            "correlationId": "9f0c8f0e-5a52-4d0e-9f0b-3c8f2a1d7e64",
            "retirable": code in _PASSING,
        }
        found[status] = {
            "model": ErrorBody,
            "description": _MEANINGS[status],
            "content": {"application/json": {"example": example}},
        }
    found[401]["headers"] = _AUTHENTICATE
    return found
