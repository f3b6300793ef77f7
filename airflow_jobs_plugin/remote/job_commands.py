"""Commands about jobs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from airflow_jobs_plugin.errors import RemoteError
from airflow_jobs_plugin.remote.client import JobsClient
from airflow_jobs_plugin.remote.output import Output, entries
from airflow_jobs_plugin.remote.session import Json
from airflow_jobs_plugin.remote.text import moment, short

#: Items of a definition that ``show`` prints.
SHOWN_ITEMS = 20


def create(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """Create a job."""
    from airflow_jobs_plugin.remote import documents

    job_id, document = documents.definition(arguments.file, arguments.id)
    with document.located():
        answer = client.create(document.content)
    return _kept(answer, f"Created {job_id}.", out)


def update(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """Replace a job's definition."""
    from airflow_jobs_plugin.remote import documents

    job_id, document = documents.definition(arguments.file, arguments.id, stored=True)
    with document.located():
        answer = client.update(job_id, document.content, arguments.if_match)
    return _kept(answer, f"Updated {job_id}; runs that have started keep what they started with.", out)


def _kept(answer: Json, text: str, out: Output) -> int:
    if out.as_json:
        out.json(answer)
        return 0
    out.line(text)
    if not answer["ready"]:
        out.remark("Airflow does not know it yet; that takes up to a minute.")
    return 0


def list_(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """List jobs."""
    pages = client.jobs(search=arguments.search, state=arguments.state, source=arguments.source)
    if out.as_json:
        out.json_pages(pages)
        return 0
    rows = [
        (
            job["id"],
            job["state"],
            job["source"],
            str(len(job["payload"])),
            moment(job["next_run_time"]),
            moment(job["last_run_time"]),
            job["description"],
        )
        for job in entries(pages)
    ]
    if rows:
        out.table(("JOB", "STATE", "SOURCE", "ITEMS>", "NEXT RUN", "LAST RUN", "SCHEDULE"), rows)
    else:
        out.remark("No jobs.")
    return 0


#: Fields of a job that are its definition.
_DEFINITION = (
    "id", "payload", "configuration", "schedule", "sink", "target", "proxy", "auth_session", "notifications",
)  # fmt: skip


def show(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """Show a job, or its definition as a job file."""
    job = client.job(arguments.job)
    if arguments.definition:
        out.json({name: job[name] for name in _DEFINITION if job.get(name) is not None})
    elif out.as_json:
        out.json(job)
    else:
        for line in _described(job):
            out.line(line)
        items = job["payload"]
        rows = [(str(n), item["apiName"], short(item["parameters"])) for n, item in enumerate(items[:SHOWN_ITEMS])]
        out.table(("#>", "API", "PARAMETERS"), rows)
        if len(items) > SHOWN_ITEMS:
            out.remark(f"… and {len(items) - SHOWN_ITEMS} more; --definition shows all")
    return 0


def _described(job: Json) -> Iterable[str]:
    configuration, target, sink = job["configuration"], job["target"], job["sink"]
    yield f"{job['id']}: {job['state']}{'' if job['ready'] else ', not known to Airflow yet'}"
    yield f"source: {job['source']}, {job['location']}"
    yield f"schedule: {job['description']}"
    if job["next_run_time"]:
        yield f"next run: {moment(job['next_run_time'])}"
    if job["last_run_time"]:
        yield f"last run: {moment(job['last_run_time'])}"
    yield f"target: {', '.join(f'{name} {short(value)}' for name, value in target.items())}"
    yield f"sink: {sink['type']} {short(sink.get('url') or sink.get('bucket') or '')}" if sink else "sink: none"
    attempts = configuration.get("retry", {}).get("maximumAttempts")
    at_once = configuration.get("maxConcurrentRequests")
    yield f"items: {len(job['payload'])}, at most {at_once} at the same time, {attempts} attempts each"
    yield f"etag: {job['etag']}"


def _each(change: Callable[[str], Json], arguments: argparse.Namespace, out: Output) -> int:
    """Do the same to several jobs; what fails for one keeps no other from it."""
    status = 0
    for job_id in arguments.jobs:
        try:
            answer = change(job_id)
        except RemoteError as error:
            if error.status in (None, 401):
                raise  # the others would fare no better
            out.complain(error, f"{job_id}: ")
            status = 1
            continue
        if out.as_json:
            out.json({"id": job_id, **answer}, indent=None)
        else:
            out.line(f"{job_id}: {answer['message']}")
    return status


def pause(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """Pause jobs."""
    return _each(client.pause, arguments, out)


def resume(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """Resume jobs."""
    return _each(client.resume, arguments, out)


def delete(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """Delete a job."""
    runs = client.delete(arguments.job, force=arguments.force, if_match=arguments.if_match)
    if out.as_json:
        out.json({"id": arguments.job, "message": "deleted", "deletedRuns": runs})
    else:
        out.line(f"Deleted {arguments.job} and the history of its {runs} run{'s' if runs != 1 else ''}.")
    return 0
