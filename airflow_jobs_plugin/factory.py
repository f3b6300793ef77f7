"""A job becomes a DAG. ``dags/jobs.py`` calls ``load_jobs()`` and has a DAG per definition."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, TriggerRule, get_parsing_context
from airflow.sdk.definitions.param import ParamsDict

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.errors import DefinitionError, JobFileError
from airflow_jobs_plugin.run import closing
from airflow_jobs_plugin.run.batches import tasks_at_once
from airflow_jobs_plugin.run.items import OVERRIDE, PAYLOAD, PLAN, SINK, unrunnable
from airflow_jobs_plugin.run.operators import PayloadOperator, PlanOperator, SinkOperator
from airflow_jobs_plugin.run.retry import BATCH_RETRY_DELAY, RETRIES, ItemRetryPolicy
from airflow_jobs_plugin.spec import Job, format_duration, masked
from airflow_jobs_plugin.store import AllJobs, JobFiles, JobStore, JobVariables, StoredJob
from airflow_jobs_plugin.store.neighbours import python_dag_ids
from airflow_jobs_plugin.store.reading import shown
from timetables.description import describe
from timetables.job import JobTimetable

log = logging.getLogger(__name__)

#: Tag of every DAG that is a job.
TAG = "job"
#: Folder of the job files beside the calling file, where nothing else is said.
DEFAULT_FOLDER = "jobs"
#: Items that the documentation of a DAG shows; the rest is counted.
SHOWN_ITEMS = 25
SHOWN_CHARACTERS = 20_000
#: Of ``plan``, which calls nobody: a worker that fails at whatever it is given may take several tries of one run.
PLAN_RETRIES = 5
#: Airflow's default; a job that runs more at a time raises it for itself.
MAX_ACTIVE_TASKS = 16


# Enough for Airflow to draw a form and to refuse what is clearly wrong; the plan task checks the rest. Airflow checks
# a param's schema whenever it serializes the DAG: the metaschema of draft 7 takes a third of the newest one's time.
_OVERRIDE_SCHEMA: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": ["array", "null"],
    "title": "Payload of this run",
    "minItems": 1,
    "items": {
        "type": "object",
        "anyOf": [{"required": ["api"]}, {"required": ["apiName"]}, {"required": ["api_name"]}],
    },
}

_JSON = json.JSONEncoder(ensure_ascii=False)


def load_jobs(folder: Path | str | None = None) -> dict[str, DAG]:
    """A DAG per job, to be put into the globals of a DAG file: ``globals().update(load_jobs())``.

    Takes the folder of the job files; default is ``[jobs] folder``, else ``jobs/`` beside the calling file.
    Returns DAGs by id. A worker that asks for one DAG gets that one. A broken definition costs its own job:
    in its place stands a DAG that Airflow lists among its import errors, under the path of the job file.
    """
    caller = sys._getframe(1).f_globals
    file = Path(caller.get("__file__") or "jobs.py").absolute()
    store = AllJobs(JobFiles(_folder(folder, file)), JobVariables())
    wanted = get_parsing_context().dag_id
    if wanted is not None:
        return _one(store, wanted)
    # DAGs that the calling file made before count as well: within one file, the later would win silently.
    return _all(store, {value.dag_id: str(file) for value in caller.values() if isinstance(value, DAG)}, file)


def build_dag(stored: StoredJob, max_map_length: int) -> DAG:
    """The DAG of one valid definition. Raises ``DefinitionError`` for what this set-up cannot run."""
    job = stored.job
    if problem := unrunnable(job, max_map_length):
        raise DefinitionError(problem)
    configuration = job.configuration
    many = configuration.items_per_task > 1
    at_once = configuration.max_concurrent_requests
    if many:
        at_once = tasks_at_once(at_once, configuration.items_per_task)
    dag = JobDag(
        dag_id=job.id,
        schedule=JobTimetable(job.id, stored.definition["schedule"]) if job.schedule is not None else None,
        description=summary(job),
        tags=[TAG],
        catchup=False,
        max_active_tasks=max(MAX_ACTIVE_TASKS, at_once),
        is_paused_upon_creation=False,
    )
    dag.stored = stored
    plan = PlanOperator(task_id=PLAN, dag=dag, retries=PLAN_RETRIES, retry_delay=closing.RETRY_DELAY)
    payload = PayloadOperator.partial(
        task_id=PAYLOAD,
        dag=dag,
        retries=RETRIES,
        # What an item waits whose worker died: Airflow does not ask the policy then.
        retry_delay=BATCH_RETRY_DELAY if many else configuration.retry.wait_after(0),
        retry_policy=ItemRetryPolicy(),
        max_active_tis_per_dagrun=at_once,
        map_index_template="{{ task.item_name }}",
    ).expand(item=plan.output)
    SinkOperator(
        task_id=SINK,
        dag=dag,
        trigger_rule=TriggerRule.ALL_DONE,
        retries=closing.RETRIES,
        retry_delay=closing.RETRY_DELAY,
        retry_policy=closing.ClosingRetryPolicy(),
        # Also switches Airflow's deadlock detection off for the run, which misjudges runs that grow.
        max_active_tis_per_dagrun=1,
    ).set_upstream(payload)
    # Last: a task takes a deep copy of the params that its DAG has when the task is made, and Airflow validates each
    # copy whenever it serializes the DAG. A trigger's values reach the run from here alone. Past the attribute's
    # validator: it would check this one schema against the metaschema of schemas, for each of a thousand DAGs.
    object.__setattr__(dag, "params", ParamsDict({OVERRIDE: _override_param(job)}))
    return dag


class JobDag(DAG):
    """A DAG that knows its job. What is not a field of DAG is not serialized, so secrets stay in the worker."""

    stored: StoredJob

    @property
    def job(self) -> Job:
        """The definition that the DAG was built from."""
        return self.stored.job

    @property
    def doc_md(self) -> str:
        """Written when Airflow asks for it, which is when it serializes the DAG: workers never do."""
        return documentation(self.stored)

    @doc_md.setter
    def doc_md(self, value: str | None) -> None:
        """DAG's constructor sets its default here."""


class FaultyJob(DAG):
    """Stands for a definition that cannot become a DAG, so that Airflow shows why among its import errors.

    Airflow collects import errors per file, and one for the factory's own file would take all jobs down. A DAG
    that fails to serialize is reported alone, under its ``relative_fileloc``: here the job file's path.
    """

    def __init__(self, name: str, location: str, reason: str) -> None:
        # Not a job id (they have no dot), so that it never stands in the way of one.
        super().__init__(dag_id=f"faulty.{name}", schedule=None)
        self._location = location
        self._reason = reason
        self.get_serialized_fields = self._refuse  # type: ignore[method-assign]

    def _refuse(self) -> frozenset[str]:
        raise DefinitionError(self._reason)

    @property
    def relative_fileloc(self) -> str:
        return self._location

    @relative_fileloc.setter
    def relative_fileloc(self, value: str | None) -> None:
        """Airflow sets the factory's file here; the fault is in the job's."""


def summary(job: Job) -> str:
    """The job in one line: how much, how, when, where to."""
    policy = job.configuration.retry
    count = len(job.payload)
    parts = [
        f"{count} item{'s' if count != 1 else ''}",
        f"{job.configuration.max_concurrent_requests} at a time",
        f"{policy.maximum_attempts} attempt{'s' if policy.maximum_attempts != 1 else ''} each",
        "on trigger" if job.schedule is None else describe(job.schedule),
    ]
    if job.sink is not None:
        parts.append(f"results to {job.sink.type}")
    return ", ".join(parts)


def documentation(stored: StoredJob) -> str:
    """The job's page in Airflow, as Markdown: what it does, and its definition with secrets masked."""
    job = stored.job
    policy = job.configuration.retry
    definition = masked(stored.definition)
    payload = definition.get("payload")
    more = ""
    if isinstance(payload, list) and len(payload) > SHOWN_ITEMS:
        more = f"\n\nThe first {SHOWN_ITEMS} of {len(payload)} items are shown."
        definition = {**definition, "payload": payload[:SHOWN_ITEMS]}
    written = _written(definition)
    if len(written) > SHOWN_CHARACTERS:
        written = written[:SHOWN_CHARACTERS] + "\n…"
    waits = ""
    if policy.initial_interval and policy.maximum_attempts > 1:
        waits = f", the first after {format_duration(policy.initial_interval)}"
        if policy.backoff_coefficient != 1:
            waits += f", each wait {policy.backoff_coefficient:g} times the one before"
        if policy.maximum_interval is not None:
            waits += f", at most {format_duration(policy.maximum_interval)}"
    return (
        f"**Job `{job.id}`**: {summary(job)}.\n\n"
        f"Task `{PLAN}` fixes the run's list, `{PAYLOAD}` calls each item"
        f" (up to {policy.maximum_attempts - 1} retries{waits}, unless an item says otherwise),"
        f" `{SINK}` closes the run. Trigger it with a payload of its own to replace the list for that run."
        f" The number of tries that Airflow shows as the maximum is a ceiling, not this job's.\n\n"
        f"Defined in `{Path(stored.location).name}` ({'a file' if stored.source == 'CODE' else 'the REST API'})."
        f"{more}\n\n```json\n{written}\n```\n"
    )


def _written(definition: dict[str, Any]) -> str:
    """JSON with a line per field and per payload item: shorter to read than one with a line per value."""
    lines = []
    for name, value in definition.items():
        if name == "payload" and isinstance(value, list):
            text = "[\n    " + ",\n    ".join(map(_JSON.encode, value)) + "\n  ]"
        else:
            text = _JSON.encode(value)
        lines.append(f'  "{name}": {text}')
    return "{\n" + ",\n".join(lines) + "\n}"


def _override_param(job: Job) -> Param:
    return Param(
        None,
        description=f"Replaces the job's own {len(job.payload)} items for this run: a list of "
        '{"api": "name", "parameters": {…}} objects. Leave it empty to run the job as it is defined.',
        schema=_OVERRIDE_SCHEMA,
    )


def _folder(folder: Path | str | None, file: Path) -> Path:
    chosen = Path(folder or settings.text("folder") or DEFAULT_FOLDER).expanduser()
    return chosen if chosen.is_absolute() else file.parent / chosen


def _one(store: JobStore, job_id: str) -> dict[str, DAG]:
    try:
        stored = store.load(job_id)
        return {job_id: build_dag(stored, settings.max_map_length())} if stored is not None else {}
    except DefinitionError:
        # The task then fails with "Dag not found", and this log says why.
        log.exception("The job %s cannot be loaded", job_id)
        return {}


def _all(store: AllJobs, made_here: dict[str, str], file: Path) -> dict[str, DAG]:
    root = file.parent
    loaded = store.load_all()
    folder = store.files.folder
    if not folder.is_dir() and folder != root / DEFAULT_FOLDER:
        where = shown(folder)
        loaded.faults[where] = [JobFileError(where, "no such folder; [jobs] folder should name one with job files")]
    taken = made_here | python_dag_ids(root, {stored.job.id for stored in loaded.jobs}, without=file)
    dags: dict[str, DAG] = {}
    limit = settings.max_map_length()
    for stored in loaded.jobs:
        try:
            if other := taken.get(stored.job.id):
                raise DefinitionError(
                    f"id: {stored.job.id!r} is the id of another DAG, in {_relative(other, root)}; choose another"
                )
            dags[stored.job.id] = build_dag(stored, limit)
        except DefinitionError as error:
            loaded.faults[stored.location] = [JobFileError(stored.location, str(error))]
        except Exception:
            # A definition that trips Airflow itself must not take the other jobs down.
            loaded.faults[stored.location] = [JobFileError(stored.location, traceback.format_exc(limit=-3))]
    for number, (location, faults) in enumerate(loaded.faults.items()):
        where = _relative(location, root)
        log.error("%s", "\n".join(str(fault) for fault in faults))
        dags[f"faulty.{number}"] = FaultyJob(str(number), where, _told(where, faults))
    return dags


def _told(where: str, faults: Iterable[JobFileError]) -> str:
    return "\n" + "\n".join(f"{where}:{fault.line}:{fault.column}: {fault.message}" for fault in faults)


def _relative(path: str, root: Path) -> str:
    try:
        return shown(Path(path).absolute().relative_to(root))
    except ValueError:
        return shown(path)


__all__ = ["TAG", "build_dag", "load_jobs"]
