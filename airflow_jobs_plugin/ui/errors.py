"""Whatever goes wrong as a page that says so."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from airflow_jobs_plugin.errors import DefinitionError, RequestError
from airflow_jobs_plugin.service.statuses import status_of
from airflow_jobs_plugin.ui.pages import HEADERS, render

log = logging.getLogger(__name__)

_TITLES = {
    400: "This request cannot be read",
    401: "You are not logged in",
    403: "You may not do this",
    404: "There is nothing here",
    405: "This cannot be done here",
    409: "Not as things are",
    411: "This request cannot be read",
    412: "Somebody has changed it meanwhile",
    413: "This is too large",
    415: "This request cannot be read",
    422: "Something is wrong with the request",
    500: "Something went wrong in the server",
}


def page(request: Request, status: int, message: str) -> Response:
    """An error of that status as a page, or as the part of one that htmx has asked for."""
    title = _TITLES.get(status, "This did not work")
    response = render(request, "error.html", status, title=title, message=message)
    # htmx takes no error into the page; the script shows this line of it above.
    response.headers["X-Error"] = message.encode("ascii", "replace").decode()[:300].replace("\n", " ").replace("\r", "")
    return response


def install(app: FastAPI) -> None:
    """Have the app answer with pages to everything that goes wrong."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(DefinitionError, _definition)
    app.add_exception_handler(RequestError, _request)
    app.add_exception_handler(Exception, _unexpected)


def _http(request: Request, error: Any) -> Response:
    if error.status_code == 404 and error.detail == "Not Found":
        return page(request, 404, "The address is wrong, or what was there is gone.")
    return page(request, error.status_code, str(error.detail))


def _invalid(request: Request, error: Any) -> Response:
    faults = "; ".join(f"{'.'.join(map(str, line['loc'][1:]))}: {line['msg']}" for line in error.errors())
    return page(request, 422, faults)


def _definition(request: Request, error: Any) -> Response:
    return page(request, 422, str(error))


def _request(request: Request, error: Any) -> Response:
    return page(request, status_of(error), str(error))


def _unexpected(request: Request, error: Exception) -> Response:
    number = uuid.uuid4()
    log.error("%s %s failed: %s", request.method, request.url.path, number, exc_info=error)
    response = page(request, 500, f"The server's log says more, under {number}.")
    # This answer is made outside of what gives them to all others.
    response.headers.update(HEADERS)
    return response
