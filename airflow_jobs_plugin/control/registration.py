"""Tells Airflow of a DAG at once, instead of at the next parse, which then finds the same.

Uses what the DAG processor itself calls; nothing of it is public.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Integer, cast, func, select
from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

#: Python files that are looked into for the factory's.
MOST_FILES = 5_000


@dataclass(frozen=True)
class FactoryFile:
    """The DAG file that calls ``load_jobs()``: where all jobs come from."""

    bundle_name: str
    bundle_version: str | None
    relative_path: str
    path: str

    @property
    def is_here(self) -> bool:
        """Whether this machine has it. Airflow stores its source text with a new DAG."""
        return os.path.isfile(self.path)


def factory_file(session: Session) -> FactoryFile | None:
    """Where jobs come from: as other jobs' DAGs say, or found in a bundle on this machine; None if nowhere."""
    from airflow.models.dag import DagModel, DagTag

    from airflow_jobs_plugin.factory import TAG

    place = (DagModel.bundle_name, DagModel.bundle_version, DagModel.relative_fileloc, DagModel.fileloc)
    files = session.execute(
        select(*place)
        .join(DagTag, DagTag.dag_id == DagModel.dag_id)
        .where(DagTag.name == TAG, DagModel.relative_fileloc.is_not(None))
        .group_by(*place)
        .order_by(func.min(cast(DagModel.is_stale, Integer)), func.max(DagModel.last_parsed_time).desc())
    )
    for row in files:
        file = FactoryFile(row[0], row[1], row[2] or "", row[3] or "")
        # Others may have the tag, too: their file makes no jobs, and a worker would look for them in vain.
        if _calls_factory(Path(file.path)) if file.is_here else _made_jobs(session, file):
            return file
    return _found_here()


def _made_jobs(session: Session, file: FactoryFile) -> bool:
    """Whether the DAGs of a file that is elsewhere are jobs of this plugin. One of them tells."""
    from airflow.models.dag import DagModel, DagTag

    from airflow_jobs_plugin.control.jobs import Filter, list_jobs
    from airflow_jobs_plugin.factory import TAG

    ids = session.scalars(
        select(DagModel.dag_id)
        .join(DagTag, DagTag.dag_id == DagModel.dag_id)
        .where(
            DagTag.name == TAG,
            DagModel.bundle_name == file.bundle_name,
            DagModel.relative_fileloc == file.relative_path,
            DagModel.is_stale.is_(False),
        )
        .limit(5)
    )
    return bool(list_jobs(session, Filter(ids=frozenset(ids)))[0])


def _calls_factory(path: Path) -> bool:
    try:
        text = path.read_bytes()
    except OSError:
        return False
    return b"load_jobs(" in text and b"airflow" in text


def register(session: Session, dag: Any, file: FactoryFile) -> None:
    """Store a DAG as the DAG processor would. It can be triggered when the transaction has ended."""
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG

    dag.fileloc = file.path
    dag.relative_fileloc = file.relative_path
    lazy = LazyDeserializedDAG.from_dag(dag)
    errors: dict[tuple[str, str], str] = {}
    update_dag_parsing_results_in_db(
        bundle_name=file.bundle_name,
        bundle_version=file.bundle_version,
        dags=[lazy],
        import_errors=errors,
        parse_duration=None,
        warnings=set(),
        session=session,
    )
    if errors:
        raise RuntimeError("\n".join(errors.values()))
    # The processor leaves a DAG that it wrote within the last [core] min_serialized_dag_update_interval.
    SerializedDagModel.write_dag(
        lazy, bundle_name=file.bundle_name, bundle_version=file.bundle_version, session=session
    )
    session.flush()


def ask_for_parse(session: Session, file: FactoryFile) -> None:
    """Have the DAG processor parse the factory's file next."""
    from airflow.models.dagbag import DagPriorityParsingRequest

    request = DagPriorityParsingRequest
    place = (request.bundle_name == file.bundle_name, request.relative_fileloc == file.relative_path)
    if session.scalar(select(request.id).where(*place)) is None:
        session.add(request(bundle_name=file.bundle_name, relative_fileloc=file.relative_path))


def _found_here() -> FactoryFile | None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    seen = 0
    manager: Any = DagBundlesManager  # not typed
    for bundle in manager().get_all_dag_bundles():
        for root, folders, names in os.walk(bundle.path):
            folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
            for name in sorted(names):
                if not name.endswith(".py"):
                    continue
                seen += 1
                if seen > MOST_FILES:
                    return None
                path = Path(root, name)
                if _calls_factory(path):
                    relative = str(path.relative_to(bundle.path))
                    version: Any = bundle.get_current_version()
                    return FactoryFile(bundle.name, version, relative, str(path))
    return None
