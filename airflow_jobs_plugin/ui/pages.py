"""Templates become pages. Everything that goes into one is escaped unless the template is what wrote it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from airflow_jobs_plugin.errors import storable
from airflow_jobs_plugin.service.callers import Caller
from airflow_jobs_plugin.spec import check_job_id
from airflow_jobs_plugin.ui import charts
from airflow_jobs_plugin.ui.links import Links

#: What a browser may do with any of the answers.
HEADERS = {
    # Nothing inline and nothing from elsewhere: what an API or a user has written can run nowhere.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    # The names of jobs and runs are in addresses. Not "no-referrer": with that, forms would have no origin.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: What happened, by the word that a redirect brings. Never a text of the request's own.
DONE = {
    "created": "The job was created.",
    "saved": "The job was changed. Runs that have started keep the old definition.",
    "deleted": "The job is gone, with the history of its runs.",
    "paused": "The job is paused: nothing new starts; calls in flight finish.",
    "resumed": "The job is active: its runs go on, and the schedule with the next run time to come.",
    "triggered": "The run was started.",
    "terminated": "The run was terminated.",
    "redelivery-ended": "The redelivery was ended; the run is what it was before.",
    "had-ended": "The run had ended already; nothing was changed.",
    "redelivering": "The results are being delivered once more.",
    "appended": "The items were appended; they run in this run.",
}
#: Most fields of a form: of a job with as many items as the form shows there are a few hundred.
MOST_FIELDS = 5_000
#: Longest text that a page shows of a parameter or a result; all of it can be downloaded.
SHOWN = 100_000


@cache
def templates() -> Environment:
    """The templates, compiled when first used."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters |= {
        "iso": iso, "utc": utc, "span": span, "pretty": pretty, "count": count, "word": word, "zoned": zoned,
        "short": short,
    }  # fmt: skip
    found.globals |= {"bar": charts.bar, "in_words": charts.in_words}
    return found


def render(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page."""
    user = request.state.job_user
    common = {
        "ui": Links(request.scope.get("root_path", "")),
        "me": user.get_name() if user is not None else None,
        "status": status,
        "done": DONE.get(request.query_params.get("done", "")),
        "now": datetime.now(UTC),
    }
    return HTMLResponse(templates().get_template(template).render(common | context), status)


def links(request: Request) -> Links:
    """Addresses as this request has reached them. A dependency of routes."""
    return Links(request.scope.get("root_path", ""))


def see_other(address: str) -> Response:
    """Where to go after something was done: a reload does not do it again."""
    return RedirectResponse(address, 303)


class Form:
    """The fields of a form, each a list of texts. A dependency of routes that change something."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self.fields = fields

    def text(self, name: str, most: int | None = None) -> str:
        """The first value of a field, without what no database can hold; empty if there is none. Raises 422."""
        found = self.fields.get(name, [""])[0]
        if most is not None and len(found) > most:
            raise HTTPException(422, f"{name}: at most {most} characters")
        return found

    def all(self, name: str) -> list[str]:
        """All values of a field."""
        return self.fields.get(name, [])


async def _form(request: Request) -> Form:
    try:
        pairs = parse_qsl(
            (await request.body()).decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="replace"
        )
    except ValueError:
        raise HTTPException(400, "the form cannot be read") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        # Browsers send the ends of lines as two characters.
        fields.setdefault(name, []).append(storable(value).replace("\r\n", "\n"))
    return Form(fields)


def _job_id(job_id: str) -> str:
    try:
        return check_job_id(job_id)
    except ValueError as error:
        raise HTTPException(404, f"there is no such job: {error}") from None


def _run_id(run_id: str) -> str:
    if len(run_id) > 250 or "\0" in run_id:
        raise HTTPException(404, "there is no such run")
    return run_id


Me = Annotated[Caller, Depends(Caller)]
At = Annotated[Links, Depends(links)]
Sent = Annotated[Form, Depends(_form)]
JobId = Annotated[str, Depends(_job_id)]
RunId = Annotated[str, Depends(_run_id)]


def number(text: str | None, default: int, most: int = 1_000_000) -> int:
    """A whole number from 1 to ``most`` of a query; the default for anything else."""
    try:
        found = int(text or "")
    except ValueError:
        return default
    return min(max(found, 1), most)


def search_of(request: Request) -> str | None:
    """The text that is searched for."""
    return storable(request.query_params.get("q", ""))[:200].strip() or None


# -- how values read -----------------------------------------------------------------------------------------------


def aware(when: datetime) -> datetime:
    """An instant with its zone: what databases without zones keep is UTC."""
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def iso(when: datetime) -> str:
    """For programs: ``2026-11-25T22:24:10.123Z``."""
    return aware(when).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc(when: datetime) -> str:
    """For people, where no script says it in their own zone: ``2026-11-25 22:24:10 UTC``."""
    return aware(when).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def zoned(when: datetime, zone: str) -> str:
    """In the zone of a job: ``Wed 2026-11-25 23:24:10 CET``."""
    from zoneinfo import ZoneInfo

    return aware(when).astimezone(ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M:%S %Z")


def span(seconds: float | timedelta | None) -> str:
    """A duration in the two largest units that it has: ``2 h 5 min``, ``3.2 s``, ``120 ms``."""
    if seconds is None:
        return "–"
    left = seconds.total_seconds() if isinstance(seconds, timedelta) else float(seconds)
    if left < 1:
        return f"{left * 1000:.0f} ms"
    if left < 60:
        return f"{left:.1f}".removesuffix(".0") + " s"
    parts: list[str] = []
    rest = round(left)
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        many, rest = divmod(rest, size)
        if many or parts:
            parts.append(f"{many} {name}" if many else "")
    return " ".join(part for part in parts[:2] if part)


def pretty(value: Any) -> str:
    """JSON for people, cut off where it is very long."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\n… and {len(text) - SHOWN:,} more characters"


def short(value: Any, most: int = 160) -> str:
    """A text, or JSON, on one line and not longer than that."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) if value else ""
    text = " ".join(text[: 2 * most].split())
    return text if len(text) <= most else text[: most - 1] + "…"


def count(many: int | None, noun: str = "") -> str:
    """``1,234 items``, ``1 item``."""
    if many is None:
        return "–"
    return f"{many:,}" + (f" {noun}{'' if many == 1 else 's'}" if noun else "")


def word(text: str) -> str:
    """``SUCCEEDED`` as ``Succeeded``."""
    return text.capitalize()
