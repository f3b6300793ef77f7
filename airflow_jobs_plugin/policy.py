"""Loaded wherever Airflow is, its command line included: the entry point ``airflow.policy`` is the one that every
process looks at, and that early no model of Airflow's exists yet.

Nothing is imported here but SQLAlchemy, which Airflow's settings have imported before. What listens to Airflow's
sessions is in ``control/``; it is imported when there is something to hear.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Mapper, Session


def _on_mapper(mapper: Any, model: type) -> None:
    name = f"{model.__module__}.{model.__name__}"
    if name == "airflow.models.dag.DagModel":
        event.listen(model, "before_update", _before_dag_update)
        event.listen(model, "before_insert", _before_dag_insert)
    elif name == "airflow.models.dagrun.DagRun":
        event.listen(model, "before_insert", _before_run_insert)
    elif name == "airflow.models.backfill.Backfill":
        event.listen(model, "before_insert", _before_backfill_insert)


def _before_dag_update(mapper: Any, connection: Any, dag: Any) -> None:
    from airflow_jobs_plugin.control import deletions, next_runs

    deletions.before_dag_write(connection, dag)
    next_runs.before_update(connection, dag)


def _before_dag_insert(mapper: Any, connection: Any, dag: Any) -> None:
    from airflow_jobs_plugin.control import deletions

    deletions.before_dag_write(connection, dag)


def _before_backfill_insert(mapper: Any, connection: Any, backfill: Any) -> None:
    from airflow_jobs_plugin.control import pausing

    pausing.before_backfill_insert(connection, backfill)


def _before_run_insert(mapper: Any, connection: Any, run: Any) -> None:
    from airflow_jobs_plugin.control import pausing

    pausing.before_run_insert(connection, run)


def _on_execute(execution: Any) -> None:
    if execution.is_update:
        from airflow_jobs_plugin.control import next_runs

        next_runs.before_bulk_update(execution)
    elif execution.is_select and getattr(execution.statement, "_for_update_arg", None) is not None:
        from airflow_jobs_plugin.control import next_runs

        next_runs.before_claim(execution)


event.listen(Mapper, "after_mapper_constructed", _on_mapper)
event.listen(Session, "do_orm_execute", _on_execute)
