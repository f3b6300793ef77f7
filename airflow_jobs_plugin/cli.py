"""``airflow-jobs``: lint, schema, next, demo, and jobs over REST. Starts without importing Airflow."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from airflow_jobs_plugin import __version__
from airflow_jobs_plugin.remote import arguments as remote


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit status."""
    parsed = _parser().parse_args(arguments)
    status = 0
    try:
        status = int(parsed.run(parsed))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe has gone, as `head` does: nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return status


def run() -> NoReturn:
    """Entry point of ``python -m airflow_jobs_plugin``."""
    sys.exit(main())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="airflow-jobs", description="Jobs for Apache Airflow.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    lint = commands.add_parser("lint", help="check job files", description="Check job files and folders of them.")
    lint.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a job file, or a folder of job files")
    lint.set_defaults(run=_lint)

    schema = commands.add_parser(
        "schema", help="print the JSON Schema of job files", description="Print the JSON Schema, for editors."
    )
    schema.set_defaults(run=_schema)

    following = commands.add_parser(
        "next",
        help="print a job's next run times",
        description="Print the next run times of a job file, nominal ones without jitter.",
    )
    following.add_argument("file", type=Path, metavar="FILE", help="a job file")
    following.add_argument(
        "--after", metavar="ISO", help="print the UTC instants strictly after this one, one per line, and nothing else"
    )
    following.add_argument("--count", type=_positive, default=10, metavar="N", help="how many; default 10")
    following.set_defaults(run=_next)

    demo = commands.add_parser(
        "demo",
        help="run an example job on a real Airflow",
        description="Start a real Airflow with an example job, an API for it to call and a receiver of its results.",
    )
    demo.add_argument("--keep", action="store_true", help="leave Airflow up afterwards, until Ctrl-C")
    demo.set_defaults(run=_demo)

    remote.add(commands)
    return parser


def _lint(arguments: argparse.Namespace) -> int:
    from airflow_jobs_plugin.linting import lint

    faults, count, advice = lint(arguments.paths)
    for fault in faults:
        print(fault)
    for line in advice:
        print(line, file=sys.stderr)
    total = f"{count} job{'s' if count != 1 else ''} without fault"
    print(f"{len(faults)} fault{'s' if len(faults) != 1 else ''}, {total}", file=sys.stderr)
    return 1 if faults else 0


def _schema(arguments: argparse.Namespace) -> int:
    from airflow_jobs_plugin.spec.schema import file_schema

    print(json.dumps(file_schema(), indent=2))
    return 0


def _next(arguments: argparse.Namespace) -> int:
    from airflow_jobs_plugin import previews
    from airflow_jobs_plugin.errors import DefinitionError

    try:
        lines = previews.run_times(arguments.file, arguments.after, arguments.count)
        for line in lines:
            print(line)
    except DefinitionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 6 or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError("a count is a whole number from 1 to 100000")
    return int(text)


def _demo(arguments: argparse.Namespace) -> int:
    try:
        from airflow_jobs_plugin.demo import run
    except ImportError as error:
        print(
            f"The demo needs more packages: pip install 'airflow-jobs-plugin[demo]' ({error})",
            file=sys.stderr,
        )
        return 2
    return int(run.main(keep=arguments.keep))
