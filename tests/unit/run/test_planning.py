"""What the planning task refuses before anything is called."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_jobs_plugin.run.operators import PlanOperator
from airflow_jobs_plugin.spec import Job
from airflow_jobs_plugin.store import StoredJob


def planned(items_per_task: int) -> list[dict[str, Any]]:
    definition = {"id": "j", "payload": [{"api": "x"}] * 3, "configuration": {"itemsPerTask": items_per_task}}
    kept: dict[str, Any] = {}
    store = SimpleNamespace(set=lambda key, value, retention: kept.update({key: value}), delete=kept.pop)
    context: Any = {
        "dag": SimpleNamespace(stored=StoredJob(Job.model_validate(definition), definition, "CODE", "")),
        "dag_run": SimpleNamespace(conf=None),
        "ti": SimpleNamespace(try_number=1, xcom_push=lambda key, value: kept.update({key: value})),
        "task_state_store": store,
    }
    return PlanOperator(task_id="plan").execute(context)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS", "True", r"with \[state_store\] clear_on_success"),
        ("AIRFLOW__WORKERS__STATE_STORE_BACKEND", "acme.Store", r"with a \[workers\] state_store_backend"),
    ],
)
def test_items_share_no_task_instance_where_airflow_would_not_keep_what_they_come_to(
    option: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [batch["count"] for batch in planned(2)] == [2, 1]
    monkeypatch.setenv(option, value)
    with pytest.raises(AirflowFailException, match=f"Nothing was called. configuration.itemsPerTask: {said}"):
        planned(2)
    assert len(planned(1)) == 3, "alone they need nothing of it"
