"""What it costs to turn job files into DAGs.  Run: python benchmarks/dag_building.py [--short]

Prints one JSON line per figure. Peers are measured in the same process, in turns with the subject:
- building a job's DAG from its YAML file (five items) against the bare construction of an equal DAG, and against
  dag-factory building a two-task DAG from its YAML;
- parsing 1,000 job files as Airflow does, against its default import time-out;
- loading one job among 1,000, as a worker does, against one among 10.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-jobs-bench-"))
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

JOB = """\
id: {name}
payload:
  - {{api: list-products, parameters: {{page: 1}}}}
  - {{api: list-products, parameters: {{page: 2}}}}
  - {{api: list-products, parameters: {{page: 3}}}}
  - {{api: list-products, parameters: {{page: 4}}}}
  - {{api: product-details, parameters: {{id: 7}}, retry: {{maximumAttempts: 5}}}}
configuration:
  maxConcurrentRequests: 3
  retry: {{maximumAttempts: 4, initialInterval: 2s, backoffCoefficient: 2, maximumInterval: 1m}}
sink: {{type: webhook, url: "https://example.com/hook"}}
"""

DAG_FACTORY = """\
{name}:
  default_args: {{owner: me, start_date: 2026-01-01}}
  schedule: null
  tasks:
    - {{task_id: one, operator: airflow.providers.standard.operators.empty.EmptyOperator}}
    - {{task_id: two, operator: airflow.providers.standard.operators.empty.EmptyOperator, dependencies: [one]}}
"""


#: Calls of one subject in a row, so that none pays for the caches that another one emptied.
BATCH = 50


def in_turns(rounds: int, *subjects: Callable[[], Any]) -> list[float]:
    """Median seconds of a call of each subject; they take turns, so that drift of the machine hits all alike."""
    times: list[list[float]] = [[] for _ in subjects]
    for subject in subjects:
        subject()
    # With the collector on, as in the process that parses: DAGs are cycles, and who makes more garbage pays.
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for taken, subject in zip(times, subjects, strict=True):
            before = time.perf_counter()
            for _ in range(BATCH):
                subject()
            taken.append((time.perf_counter() - before) / BATCH)
    return [statistics.median(taken) for taken in times]


def report(name: str, **figures: Any) -> None:
    print(json.dumps({"benchmark": name, **figures}))


def building(rounds: int) -> None:
    from airflow.sdk import DAG, Param

    from airflow_jobs_plugin import factory
    from airflow_jobs_plugin.factory import build_dag, documentation, summary
    from airflow_jobs_plugin.run import closing
    from airflow_jobs_plugin.run.operators import PayloadOperator, PlanOperator, SinkOperator
    from airflow_jobs_plugin.run.retry import ItemRetryPolicy
    from airflow_jobs_plugin.store.files import read

    folder = Path(tempfile.mkdtemp())
    path = folder / "bench.job.yaml"
    path.write_text(JOB.format(name="bench"))
    peer = folder / "peer.yaml"
    peer.write_text(DAG_FACTORY.format(name="peer"))
    stored = read(path)
    line = summary(stored.job)
    text = documentation(stored)
    first_wait = stored.job.configuration.retry.wait_after(0)

    def from_file() -> None:
        build_dag(read(path), 1024)

    def bare() -> None:
        # The same DAG, written down by hand.
        dag = DAG(
            "bench",
            schedule=None,
            description=line,
            doc_md=text,
            tags=["job"],
            params={
                "payload": Param(
                    None,
                    description="Replaces the job's own items for this run",
                    **copy.deepcopy(dict(factory._OVERRIDE_SCHEMA)),
                )
            },
            catchup=False,
            max_active_tasks=16,
            is_paused_upon_creation=False,
        )
        plan = PlanOperator(task_id="plan", dag=dag, retries=2, retry_delay=closing.RETRY_DELAY)
        payload = PayloadOperator.partial(
            task_id="payload",
            dag=dag,
            retries=999,
            retry_delay=first_wait,
            retry_policy=ItemRetryPolicy(),
            max_active_tis_per_dagrun=3,
            map_index_template="{{ task.item_name }}",
        ).expand(item=plan.output)
        SinkOperator(
            task_id="sink",
            dag=dag,
            trigger_rule="all_done",
            retries=100,
            retry_delay=closing.RETRY_DELAY,
            retry_policy=closing.ClosingRetryPolicy(),
            max_active_tis_per_dagrun=1,
        ).set_upstream(payload)

    subjects = [from_file, bare]
    try:
        import logging

        from dagfactory import load_yaml_dags

        logging.getLogger("dagfactory").setLevel(logging.ERROR)
        subjects.append(lambda: load_yaml_dags(globals_dict={}, config_filepath=str(peer)))
    except ImportError as error:
        print(f"dag-factory is not installed: {error}", file=sys.stderr)
    ours, by_hand, *others = in_turns(rounds, *subjects)
    report("DAG from a job file against the bare construction", ms=round(ours * 1e3, 3),
           peer_ms=round(by_hand * 1e3, 3), ratio=round(ours / by_hand, 2), bound="<= 1.5")  # fmt: skip
    for other in others:
        report("DAG from a job file against dag-factory", ms=round(ours * 1e3, 3), peer_ms=round(other * 1e3, 3),
               times_faster=round(other / ours, 2), bound=">= 2")  # fmt: skip


def dags_folder(count: int) -> Path:
    folder = Path(tempfile.mkdtemp())
    (folder / "jobs").mkdir()
    for number in range(count):
        (folder / "jobs" / f"bench-{number}.job.yaml").write_text(JOB.format(name=f"bench-{number}"))
    (folder / "jobs.py").write_text(
        '"""An Airflow DAG per job file."""\n'
        "from airflow_jobs_plugin.factory import load_jobs\n\nglobals().update(load_jobs())\n"
    )
    return folder


def parsing() -> None:
    from airflow.configuration import conf
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.serialization.serialized_objects import DagSerialization

    folder = dags_folder(1000)
    before = time.perf_counter()
    bag = BundleDagBag(dag_folder=folder / "jobs.py", bundle_path=folder, bundle_name="bench", load_op_links=False)
    imported = time.perf_counter() - before
    for dag in bag.dags.values():
        DagSerialization.to_dict(dag)
    everything = time.perf_counter() - before
    assert len(bag.dags) == 1000, bag.import_errors
    report("parse 1,000 job files", import_s=round(imported, 2), with_serialization_s=round(everything, 2),
           timeout_s=conf.getfloat("core", "dagbag_import_timeout"))  # fmt: skip


def one_among_many(rounds: int) -> None:
    from airflow.dag_processing.dagbag import BundleDagBag

    def worker(folder: Path) -> Callable[[], None]:
        def load() -> None:
            os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = "bench-7"
            try:
                bag = BundleDagBag(
                    dag_folder=folder / "jobs.py", bundle_path=folder, bundle_name="bench", load_op_links=False
                )
            finally:
                del os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"]
            assert set(bag.dags) == {"bench-7"}

        return load

    many, few = in_turns(rounds, worker(dags_folder(1000)), worker(dags_folder(10)))
    report("a worker loads one job among 1,000 against one among 10", ms=round(many * 1e3, 2),
           peer_ms=round(few * 1e3, 2), difference_ms=round((many - few) * 1e3, 2),
           ratio=round(many / few, 2))  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--short", action="store_true", help="fewer rounds, for CI")
    rounds = 10 if arguments.parse_args().short else 60
    import logging

    import structlog

    logging.disable(logging.INFO)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    building(rounds)
    parsing()
    one_among_many(rounds)


if __name__ == "__main__":
    main()
