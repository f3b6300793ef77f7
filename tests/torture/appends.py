"""Appends that race with each other, with finishing items and with a run that tries to close, on a real database.

Run: python -m tests.torture.appends [--first 0] [--rounds 300] [--appenders 50] [--calls 20] [--items-per-task 1]

Each round is one run of a job on an embedded PostgreSQL. A thread does what Airflow's scheduler does, with the
scheduler's own functions, and others end what is scheduled, as workers would; the run closes as soon as nothing is
left to do. Meanwhile appenders append with keys of their own: some requests break off before they are committed, some
after that, so that the caller has to repeat them, and some connections are killed by the database. At the end of each
round a ledger of what was acknowledged and what was refused is held against the run. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

#: Options that say how much is done, in the order in which ``torture`` takes them.
AMOUNTS = ("first", "rounds", "appenders", "calls", "items_per_task")
#: Seconds that a round may take, however busy the machine: then it hangs.
LONG = 1200
#: With what a connection of a database's has itself killed.
KILLED = {"postgresql": "SELECT pg_terminate_backend(pg_backend_pid())", "mysql": "KILL CONNECTION CONNECTION_ID()"}
JOB: dict[str, Any] = {
    "id": "torture",
    "payload": [{"api": "seed", "parameters": {"n": n}} for n in range(3)],
    "target": {"type": "python"},
    "configuration": {"maxConcurrentRequests": 50},
}


class Round:
    """One run, from its plan to its end."""

    def __init__(self, number: int, appenders: int, calls: int, job: dict[str, Any]) -> None:
        self.job = job
        self.run_id = f"manual__{number}"
        self.appenders, self.calls = appenders, calls
        self.random = random.Random(number)
        # How often appenders wait for the run to be nearly over: rounds differ in how they race.
        self.patience = self.random.choice((0, 0.3, 0.8, 1))
        self.listed = len(JOB["payload"])
        self.acknowledged: dict[str, list[int]] = {}
        self.refused: Counter[str] = Counter()
        self.repeats = 0
        self.ended: dict[int, int] = {}
        self.closed = threading.Event()
        self.closed_over = -1
        self.faults: list[str] = []
        self._lock = threading.Lock()

    # -- what Airflow does -------------------------------------------------------------------------------

    def plan(self, session: Any) -> None:
        """The run as it is when its plan has succeeded."""
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.models.task_state_store import TaskStateStoreModel
        from airflow.models.taskmap import TaskMap
        from airflow.models.xcom import XComModel
        from airflow.utils.state import DagRunState, TaskInstanceState
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        from airflow_jobs_plugin.run.batches import SIZES, cut, sizes_of
        from airflow_jobs_plugin.run.items import PLAN, TERMS, Terms, plan_items
        from airflow_jobs_plugin.spec import Job

        job = Job.model_validate(self.job)
        items = plan_items(job, None, 1000)
        size = job.configuration.items_per_task
        batches = cut(len(items), size, "plan") if size > 1 else []
        returned = [batch.written() for batch in batches] or items
        serialized = SerializedDagModel.get("torture", session=session)
        run = serialized.dag.create_dagrun(
            run_id=self.run_id, run_after=utcnow(), run_type=DagRunType.MANUAL, state=DagRunState.RUNNING,
            triggered_by=DagRunTriggeredByType.TEST, session=session,
        )  # fmt: skip
        run.start_date = utcnow()
        plan = run.get_task_instance(PLAN, session=session)
        plan.state = TaskInstanceState.SUCCESS
        session.flush()
        kept = {"return_value": returned, TERMS: Terms.of(job, 0).written()}
        kept |= {batch.key: items[batch.first : batch.end] for batch in batches}
        if batches:
            place = {"dag_run_id": run.id, "dag_id": "torture", "run_id": self.run_id, "task_id": PLAN, "map_index": -1}
            session.add(TaskStateStoreModel(key=SIZES, value=json.dumps(sizes_of(batches)), **place))
        for key, value in kept.items():
            XComModel.set(
                key=key,
                value=value,
                dag_id="torture",
                task_id=PLAN,
                run_id=self.run_id,
                serialize=False,
                session=session,
            )
        session.add(TaskMap.from_task_instance_xcom(plan, returned))

    def schedule(self) -> None:
        """The scheduler's loop: takes the run if nobody holds it, and decides."""
        from airflow.models.dagrun import DagRun
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.utils.state import DagRunState

        while not self.closed.is_set():
            with own_session() as session:
                for run in DagRun.get_running_dag_runs_to_examine(session=session):
                    if run.run_id != self.run_id:
                        continue
                    run.dag = SerializedDagModel.get("torture", session=session).dag
                    ready, _ = run.update_state(session=session, execute_callbacks=False)
                    run.schedule_tis(ready, session=session)
                    if run.state != DagRunState.RUNNING:
                        self.closed.set()
            time.sleep(self.random.uniform(0, 0.02))

    def work(self) -> None:
        """Workers: begin what is scheduled, and end it. The closing task counts what it closes over.

        As on a worker, an instance reads its items after it has begun, in a transaction of its own.
        """
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.state import TaskInstanceState
        from sqlalchemy import select, update
        from sqlalchemy.orm import Session

        from airflow_jobs_plugin.control.transactions import transact

        while not self.closed.is_set():
            with own_session() as session:
                found = session.scalars(
                    select(TaskInstance)
                    .where(TaskInstance.run_id == self.run_id, TaskInstance.state == TaskInstanceState.SCHEDULED)
                    .limit(self.random.randint(1, 80))
                    .with_for_update(of=TaskInstance, skip_locked=True)
                ).all()
                begun = [(ti.task_id, ti.map_index, ti.id) for ti in found]
                for ti in found:
                    ti.state = TaskInstanceState.RUNNING
            returned = self._xcom("return_value") if begun else []
            for task_id, index, _ in begun:
                time.sleep(self.random.uniform(0, 0.002))
                if task_id == "sink":
                    with self._lock:
                        self.closed_over = len(self._listed())
                        if len(self.ended) != self.closed_over:
                            self.faults.append(f"closed over {self.closed_over} with {len(self.ended)} ended")
                elif task_id == "payload":
                    indexes = self._batch(index, returned[index])
                    with self._lock:
                        for item in indexes:
                            self.ended[item] = self.ended.get(item, 0) + 1
                            if self.closed_over >= 0:
                                self.faults.append(f"item {item} ran after closing")
            ended = (
                update(TaskInstance)
                .where(TaskInstance.id.in_([one[2] for one in begun]))
                .values(state=TaskInstanceState.SUCCESS, end_date=utcnow())
            )
            # Workers end one instance at a time. Many in one statement are locked in any order, and may deadlock.
            transact(partial(Session.execute, statement=ended))
            time.sleep(self.random.uniform(0, 0.01))

    def _xcom(self, key: str) -> Any:
        from airflow.models.xcom import XComModel
        from sqlalchemy import select

        where = (XComModel.run_id == self.run_id, XComModel.task_id == "plan", XComModel.key == key)
        with own_session() as session:
            return session.scalar(select(XComModel.value).where(*where))

    def _batch(self, index: int, reference: dict[str, Any]) -> range:
        """The items that an instance runs, as it reads them after it has begun."""
        from airflow_jobs_plugin.run.batches import Batch, is_batch

        if not is_batch(reference):
            return range(index, index + 1)
        batch = Batch.read(reference)
        items = self._xcom(batch.key)
        if len(items) != batch.count:
            self.faults.append(f"batch {index} has {len(items)} items, and says {batch.count}")
        return range(batch.first, batch.first + len(items))

    def _listed(self) -> list[dict[str, Any]]:
        """All items of the run."""
        from airflow_jobs_plugin.run.batches import Batch, is_batch

        found: list[dict[str, Any]] = self._xcom("return_value")
        if not is_batch(found[0]):
            return found
        return [item for reference in found for item in self._xcom(Batch.read(reference).key)]

    # -- what callers do ---------------------------------------------------------------------------------

    def append_all(self, appender: int) -> None:
        """One caller: appends again and again, and repeats whatever it has no answer to."""
        chance = random.Random(f"{self.run_id}/{appender}")
        for call in range(self.calls):
            key = f"{appender}/{call}"
            payload = [{"api": "more", "parameters": {"key": key, "n": n}} for n in range(chance.randint(1, 3))]
            for answered in range(1 + (chance.random() < 0.2)):  # some ask again although they have an answer
                if not self._append(chance, key, payload, answered):
                    break
            if self.closed.is_set():
                return
            if chance.random() < self.patience:
                self._await_closing(chance)

    def _await_closing(self, chance: random.Random) -> None:
        """Wait until nothing is left to do, or nearly so: the next append then races with closing."""
        end = time.monotonic() + 1
        while len(self.ended) < self.listed and not self.closed.is_set() and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.04))

    def _append(self, chance: random.Random, key: str, payload: list[Any], again: int) -> bool:
        from sqlalchemy import text
        from sqlalchemy.exc import DBAPIError

        from airflow_jobs_plugin.control.appending import append
        from airflow_jobs_plugin.control.transactions import transact
        from airflow_jobs_plugin.errors import ConflictError

        while True:
            fate = chance.choice(("well",) * 7 + ("before", "after", "killed"))

            def work(session: Any, fate: str = fate) -> Any:
                done = append(session, "torture", self.run_id, payload, key=key)
                if fate == "before":
                    raise Disconnected
                if fate == "killed":
                    session.execute(text(KILLED[session.get_bind().dialect.name]))
                return done

            try:
                done = transact(work)
            except ConflictError as error:
                with self._lock:
                    self.refused[error.code] += 1
                    if key in self.acknowledged:
                        self.faults.append(f"{key} was acknowledged, then refused: {error.code}")
                return False
            except (Disconnected, DBAPIError):
                self.repeats += 1
                continue
            if fate == "after":
                self.repeats += 1
                continue  # the answer was lost
            with self._lock:
                self.listed = max(self.listed, done.indexes[-1] + 1)
                before = self.acknowledged.setdefault(key, done.indexes)
                if before != done.indexes or (again and done.new):
                    self.faults.append(f"{key} was answered {before}, then {done.indexes}")
            return True

    # -- the reckoning -----------------------------------------------------------------------------------

    def reckon(self) -> None:
        """Hold what callers were told against what the run did."""
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.taskmap import TaskMap
        from sqlalchemy import select

        items, tasks = self._listed(), len(self._xcom("return_value"))
        with own_session() as session:
            length = session.scalar(select(TaskMap.length).where(TaskMap.run_id == self.run_id))
            instances = session.execute(
                select(TaskInstance.map_index, TaskInstance.state).where(
                    TaskInstance.run_id == self.run_id, TaskInstance.task_id == "payload"
                )
            ).all()
            state = session.scalar(select(DagRun.state).where(DagRun.run_id == self.run_id))
        seen = [json.loads(item["parameters"]) for item in items]
        count = Counter((one["key"], one["n"]) for one in seen if "key" in one)
        faults = self.faults
        if state != "success":
            faults.append(f"the run ended {state}")
        if doubled := [one for one, n in count.items() if n > 1]:
            faults.append(f"doubled: {doubled[:5]}")
        for key, indexes in self.acknowledged.items():
            if [seen[index].get("key") for index in indexes] != [key] * len(indexes):
                faults.append(f"lost: {key}")
        if {key for key, _ in count} != set(self.acknowledged):
            faults.append(f"not acknowledged, or lost: {len({k for k, _ in count} ^ set(self.acknowledged))}")
        if not tasks == length == len(instances):
            faults.append(f"{tasks} tasks, {length}, {len(instances)}")
        if not len(items) == self.closed_over == len(self.ended):
            faults.append(f"{len(items)} items, {self.closed_over}, {len(self.ended)}")
        if set(self.ended.values()) != {1} or {s for _, s in instances} != {"success"}:
            faults.append("an item did not run exactly once")

    def play(self) -> None:
        """The whole round."""
        from airflow_jobs_plugin.control.transactions import transact

        transact(self.plan)
        appenders = [threading.Thread(target=self._guarded, args=(self.append_all, n)) for n in range(self.appenders)]
        airflow = [
            threading.Thread(target=self._guarded, args=(work,)) for work in (self.schedule, self.work, self.work)
        ]
        for thread in appenders + airflow:
            thread.start()
        for thread in appenders + airflow:
            thread.join(LONG)
            if thread.is_alive():
                self.faults.append("hangs")
                self.closed.set()
        self._append_late()
        self.reckon()

    def _append_late(self) -> None:
        """An append to what has ended: whatever the race was like, this one is refused."""
        if self._append(random.Random(0), "late", [{"api": "more", "parameters": {"key": "late", "n": 0}}], 0):
            self.faults.append("an append was taken after the run had ended")

    def _guarded(self, work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception as error:
            self.faults.append(f"{type(error).__name__}: {error}")
            self.closed.set()


class Disconnected(Exception):
    """The caller hung up before the transaction was committed."""


def utcnow() -> Any:
    from airflow.sdk import timezone

    return timezone.utcnow()


def own_session() -> Any:
    from airflow.utils.session import create_session

    return create_session(scoped=False)


def torture(first: int, rounds: int, appenders: int, calls: int, items_per_task: int) -> int:
    """In a process that is configured for the database: plays the rounds; returns the number of faults."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    from airflow_jobs_plugin.control import registration
    from airflow_jobs_plugin.control.transactions import transact
    from airflow_jobs_plugin.factory import build_dag
    from airflow_jobs_plugin.spec import Job
    from airflow_jobs_plugin.store import StoredJob

    DagBundlesManager().sync_bundles_to_db()
    job = {**JOB, "configuration": {**JOB["configuration"], "itemsPerTask": items_per_task}}
    dag = build_dag(StoredJob(Job.model_validate(job), job, "API", ""), 1000)
    transact(lambda session: registration.register(session, dag, registration.factory_file(session)))
    began = time.monotonic()
    total: Counter[str] = Counter()
    for number in range(first, first + rounds):
        one = Round(number, appenders, calls, job)
        one.play()
        for fault in one.faults[:10]:
            print(f"round {number}: {fault}", file=sys.stderr)
        total += Counter(
            faults=len(one.faults), acknowledged=len(one.acknowledged), items=len(one.ended), repeats=one.repeats,
            refused=sum(one.refused.values()),
        )  # fmt: skip
    kinds = ("acknowledged", "refused", "repeats", "items", "faults")
    report = {"torture": "appends", "first": first, "rounds": rounds, "appenders": appenders, "calls": calls}
    report |= {"items_per_task": items_per_task}
    took = round(time.monotonic() - began, 1)
    print(json.dumps(report | {kind: total[kind] for kind in kinds} | {"seconds": took}), flush=True)
    return total["faults"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="number of the first round; each number races differently")
    parser.add_argument("--appenders", type=int, default=50)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--items-per-task", type=int, default=1)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [getattr(options, name) for name in AMOUNTS]
    if options.inside:
        return 1 if torture(*sizes) else 0

    from airflow_jobs_plugin.demo.run import DAG_FILE
    from airflow_jobs_plugin.demo.stack import AirflowStack

    # No more connections than the appenders: waiting for the run's lock is what they are here for.
    pool = {"database": {"sql_alchemy_pool_size": options.appenders + 10, "sql_alchemy_max_overflow": 20}}
    with AirflowStack(config=pool).database() as airflow:
        (airflow.dags_folder / "jobs.py").write_text(DAG_FILE)
        arguments = [f"--{name.replace('_', '-')}={size}" for name, size in zip(AMOUNTS, sizes, strict=True)]
        command = [sys.executable, "-m", "tests.torture.appends", "--inside", *arguments]
        return subprocess.run(command, env=airflow.env, cwd=Path(__file__).parents[2]).returncode


if __name__ == "__main__":
    sys.exit(main())
