"""Runs the commands that ask an Airflow over its REST API."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from airflow_jobs_plugin.errors import ConfigurationError, JobsError
from airflow_jobs_plugin.remote import connection, health
from airflow_jobs_plugin.remote import job_commands as jobs
from airflow_jobs_plugin.remote import run_commands as runs
from airflow_jobs_plugin.remote.client import JobsClient
from airflow_jobs_plugin.remote.output import Output

_COMMANDS: dict[str, Callable[[JobsClient, argparse.Namespace, Output], int]] = {
    "health": health.show,
    "create": jobs.create,
    "update": jobs.update,
    "list": jobs.list_,
    "show": jobs.show,
    "pause": jobs.pause,
    "resume": jobs.resume,
    "trigger": runs.trigger,
    "watch": runs.watch,
    "runs": runs.runs,
    "items": runs.items,
    "append": runs.append,
    "results": runs.results,
    "redeliver": runs.redeliver,
    "terminate": runs.terminate,
    "delete": jobs.delete,
}


def run(arguments: argparse.Namespace) -> int:
    """Run one of the commands; returns its exit status: 1 if it failed, 2 if it cannot be run so."""
    out = Output(arguments.json)
    try:
        reached = connection.from_options(arguments.url, arguments.token_file, os.environ)
        with JobsClient(reached) as client:
            status = _COMMANDS[arguments.command](client, arguments, out)
        sys.stdout.flush()
    except ConfigurationError as error:
        out.remark(str(error))
        return 2
    except JobsError as error:
        out.complain(error)
        return 1
    except BrokenPipeError:
        raise  # its reader has had enough
    except OSError as error:
        # Whatever else is read or written says itself what is wrong with it.
        out.give_up(error)
        return 1
    return status
