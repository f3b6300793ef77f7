from __future__ import annotations

from .scripts import figures


def test_dag_building() -> None:
    found = figures("dag_building.py", "--short")
    assert found["DAG from a job file against the bare construction"]["ratio"] < 3
    assert found["DAG from a job file against dag-factory"]["times_faster"] > 1
    parsing = found["parse 1,000 job files"]
    assert parsing["import_s"] < parsing["timeout_s"]
    assert found["a worker loads one job among 1,000 against one among 10"]["difference_ms"] < 5


def test_recurrence() -> None:
    found = figures("recurrence.py", "--short")
    assert found["next run time against croniter"]["times_faster"] > 5
    assert found["next run time against MultipleCronTriggerTimetable"]["times_faster"] > 5
    assert found["the sparsest schedule"]["cold_ms"] < 5
    assert found["a schedule that never fires"]["cold_ms"] < 5
