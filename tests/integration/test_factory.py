"""Job files through Airflow's own loader and serializer, without a database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.dag_processing.processor import _serialize_dags
from airflow.serialization.serialized_objects import DagSerialization

from airflow_jobs_plugin.errors import DefinitionError

FACTORY = '"""An Airflow DAG per job file."""\nfrom airflow_jobs_plugin.factory import load_jobs\n\n'
CALL = "globals().update(load_jobs())\n"
GOOD = {"payload": [{"api": "echo", "parameters": {"page": 1}}]}


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs.py").write_text(FACTORY + CALL)
    return tmp_path


def write(dags: Path, job_id: str, definition: dict[str, Any]) -> None:
    (dags / "jobs" / f"{job_id}.job.json").write_text(json.dumps(definition))


def load(dags: Path) -> Any:
    return BundleDagBag(dag_folder=dags / "jobs.py", bundle_path=dags, bundle_name="test", load_op_links=False)


def errors(dags: Path) -> dict[str, str]:
    import structlog

    bag = load(dags)
    _, found = _serialize_dags(bag, structlog.get_logger())
    return {**bag.import_errors, **found}


def test_a_job_is_a_dag_of_three_tasks(dags: Path) -> None:
    write(dags, "one", {**GOOD, "configuration": {"maxConcurrentRequests": 40}})
    dag = load(dags).dags["one"]
    assert list(dag.task_dict) == ["plan", "payload", "sink"]
    assert dag.task_dict["payload"].max_active_tis_per_dagrun == 40
    assert dag.max_active_tasks >= 40, "the DAG's own bound must not be lower than the job's"
    assert dag.is_paused_upon_creation is False
    assert dag.tags == {"job"}


def test_the_documentation_has_a_line_per_item_and_masks_secrets(dags: Path) -> None:
    payload = [{"api": "echo", "parameters": {"n": n}} for n in range(30)]
    write(dags, "doc", {"payload": payload, "target": {"headers": {"X-Key": "hunter2"}}})
    dag = load(dags).dags["doc"]
    assert '    {"api": "echo", "parameters": {"n": 24}}\n  ],' in dag.doc_md
    assert "The first 25 of 30 items are shown." in dag.doc_md
    assert '"target": {"headers": {"X-Key": "***"}}' in dag.doc_md
    assert "hunter2" not in json.dumps(DagSerialization.to_dict(dag))


def test_a_worker_builds_only_the_dag_that_it_needs(dags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        write(dags, f"job-{number}", GOOD)
    write(dags, "broken", {"payload": []})
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "job-3")
    assert list(load(dags).dags) == ["job-3"]
    for nothing in ("broken", "nobody"):
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", nothing)
        assert list(load(dags).dags) == []


def test_a_fault_is_reported_under_its_own_file_and_costs_nobody_else(dags: Path) -> None:
    write(dags, "good", GOOD)
    write(dags, "bad", {"payload": [{"api": "echo", "paramters": {}}]})
    write(dags, "long", {"payload": GOOD["payload"] * 1025})
    write(dags, "s3", {**GOOD, "sink": {"type": "s3", "bucket": "abc"}})
    assert "good" in load(dags).dags
    found = errors(dags)
    assert set(found) == {"jobs/bad.job.json", "jobs/long.job.json"}
    assert "payload[0].paramters: unknown field" in found["jobs/bad.job.json"]
    assert "[core] max_map_length (1024)" in found["jobs/long.job.json"]


def test_an_id_that_another_dag_has_is_refused(dags: Path) -> None:
    (dags / "jobs.py").write_text(FACTORY + 'from airflow.sdk import DAG\n\nmine = DAG("here", schedule=None)\n' + CALL)
    (dags / "other.py").write_text('from airflow.sdk import DAG\n\nDAG(dag_id="there", schedule=None)\n')
    for job_id in ("here", "there", "free"):
        write(dags, job_id, GOOD)
    assert set(errors(dags)) == {"jobs/here.job.json", "jobs/there.job.json"}
    bag = load(dags)
    assert type(bag.dags["here"]).__name__ == "DAG"
    assert "free" in bag.dags


def test_a_configured_folder_that_is_not_there_is_told(dags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__JOBS__FOLDER", "nowhere")
    (text,) = errors(dags).values()
    assert "no such folder" in text
    monkeypatch.setenv("AIRFLOW__JOBS__FOLDER", "jobs")
    assert errors(dags) == {}


def test_a_faulty_dag_fails_to_serialize_and_says_why(dags: Path) -> None:
    write(dags, "bad", {"payload": []})
    (dag,) = load(dags).dags.values()
    with pytest.raises(Exception, match="payload: List should have at least 1 item") as caught:
        DagSerialization.to_dict(dag)
    assert isinstance(caught.value, DefinitionError) or isinstance(caught.value.__cause__, DefinitionError)
