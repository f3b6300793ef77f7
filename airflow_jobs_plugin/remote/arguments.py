"""What the commands over the REST API take. Imported with every command line, so nothing but a parser."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

ITEM_STATUSES = ("PENDING", "RUNNING", "RETRYING", "SUCCEEDED", "FAILED", "CANCELED")
CONNECTION = """\
AIRFLOW_JOBS_URL or --url says where Airflow is (default http://localhost:8080). Who asks: a token in AIRFLOW_JOBS_TOKEN
or --token-file, else AIRFLOW_JOBS_USERNAME and AIRFLOW_JOBS_PASSWORD, else whoever Airflow lets in without a password.
"""


def add(commands: Any) -> None:
    """Add the commands to the sub-parsers of a parser."""
    _command(commands, "health", "show what has to work for jobs to run; exit status 1 if no job can")

    create = _command(commands, "create", "create a job from a definition")
    _definition(create)

    update = _command(commands, "update", "replace a job's definition; runs that have started keep theirs")
    _definition(update)
    _if_match(update)

    jobs = _command(commands, "list", "list the jobs")
    jobs.add_argument("--search", type=_text, metavar="TEXT", help="only ids that contain it")
    jobs.add_argument("--state", type=str.upper, choices=("ACTIVE", "PAUSED"), help="only these")
    jobs.add_argument("--source", type=str.upper, choices=("API", "CODE"), help="only these; CODE: job files")

    show = _command(commands, "show", "show a job")
    show.add_argument("job", type=_text, metavar="JOB")
    show.add_argument(
        "--definition", action="store_true", help="print a job file (JSON) for `update`; '***' keeps a stored secret"
    )

    for name, text in (
        ("pause", "pause jobs: nothing new starts, calls in flight finish"),
        ("resume", "resume paused jobs"),
    ):
        _command(commands, name, text).add_argument("jobs", nargs="+", type=_text, metavar="JOB")

    trigger = _command(commands, "trigger", "start a run of a job now")
    trigger.add_argument("job", type=_text, metavar="JOB")
    trigger.add_argument("--payload", metavar="FILE", help="items in place of the job's own, JSON or YAML; - is stdin")
    trigger.add_argument("--note", type=_text, metavar="TEXT", help="is shown with the run")
    trigger.add_argument(
        "--idempotency-key", type=_key, metavar="KEY", help="the same key starts one run only, however often it is used"
    )
    trigger.add_argument(
        "--watch", action="store_true", help="watch the run until it ends; exit status 0 if it was good, else 1"
    )

    _run(_command(commands, "watch", "watch a run until it ends; exit status 0 if it was good, else 1"))

    runs = _command(commands, "runs", "list a job's runs, the newest first")
    runs.add_argument("job", type=_text, metavar="JOB")
    runs.add_argument("--limit", type=_count, default=20, metavar="N", help="how many; default 20")

    items = _command(commands, "items", "list a run's items with their results or errors")
    _run(items)
    items.add_argument("--status", type=str.upper, choices=ITEM_STATUSES, help="only these")
    items.add_argument("--search", type=_text, metavar="TEXT", help="only items with it in API or parameters")

    append = _command(commands, "append", "append items to a run that is in progress: all of them or none")
    _run(append)
    append.add_argument("file", metavar="FILE", help="the items, JSON or YAML; - is standard input")
    append.add_argument("--parent", type=_index, metavar="INDEX", help="index of the item that they come from")
    append.add_argument(
        "--idempotency-key", type=_key, metavar="KEY", help="the same key appends once only, however often it is used"
    )

    results = _command(commands, "results", "write a run's results, one line per item that has ended")
    _run(results)
    results.add_argument("--format", choices=("jsonl", "csv"), help="default jsonl, which is JSON Lines")
    results.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")

    redeliver = _command(commands, "redeliver", "deliver a run's results once more; no API is called")
    _run(redeliver)
    redeliver.add_argument("--watch", action="store_true", help="watch it; exit status as of `watch`")

    terminate = _command(commands, "terminate", "end a run now, canceling its calls; nothing is delivered")
    _run(terminate)
    terminate.add_argument("--reason", type=_text, metavar="TEXT", help="is shown with the run")

    delete = _command(commands, "delete", "delete a job and the history of its runs")
    delete.add_argument("job", type=_text, metavar="JOB")
    delete.add_argument("--force", action="store_true", help="terminate its active runs instead of refusing")
    _if_match(delete)


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    description = f"{text[0].upper()}{text[1:]}."
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=description, epilog=CONNECTION)
    parser.add_argument("--json", action="store_true", help="print the API's JSON and nothing else")
    parser.add_argument("--url", metavar="URL", help="Airflow's base URL")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a file with an access token of Airflow")
    parser.set_defaults(run=_start, command=name)
    return parser


def _start(arguments: argparse.Namespace) -> int:
    from airflow_jobs_plugin.remote import commands

    return commands.run(arguments)


def _definition(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a job file, YAML or JSON; - is standard input")
    parser.add_argument(
        "--id", type=_text, metavar="JOB", help="the job's id; default: the definition's, else from the file's name"
    )


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=_text, metavar="JOB")
    parser.add_argument("job_run", type=_text, metavar="RUN", help="a run's id, or `latest`")


def _if_match(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--if-match", type=_key, metavar="ETAG", help="do it only if the job is still the one that `show` gave this for"
    )


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("is not text in UTF-8") from None
    return text


def _key(text: str) -> str:
    if not 1 <= len(text) <= 250 or not all(32 < ord(c) < 127 for c in text):
        raise argparse.ArgumentTypeError("should be 1 to 250 ASCII characters without spaces")
    return text


def _index(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("items are numbered from 0")
    return value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError("a count is a whole number from 1")
    return int(text)
