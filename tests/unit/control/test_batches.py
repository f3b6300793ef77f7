"""Items that share task instances, read from Airflow's own tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, delete, event, insert
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import batches
from airflow_jobs_plugin.control.batches import BatchedRows
from airflow_jobs_plugin.control.transactions import Overtaken
from airflow_jobs_plugin.run.batches import cut
from airflow_jobs_plugin.run.items import PAYLOAD, PLAN
from airflow_jobs_plugin.run.journal import Ended, Row, pack, piece_key, row_key

JOB, RUN = "prices", "manual__1"
BATCHES = cut(7, 3, "plan")


@pytest.fixture
def session() -> Iterator[Session]:
    """Seven items, three to a task instance: all have ended but the last, and every third failed."""
    from airflow.models import import_all_models
    from airflow.models.dagrun import DagRun
    from airflow.models.task_state_store import TaskStateStoreModel as Store
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.sdk import timezone

    import_all_models()  # tables refer to each other
    engine = create_engine("sqlite://")
    tables = [model.__table__ for model in (DagRun, TaskInstance, XComModel, Store)]
    DagRun.metadata.create_all(engine, tables=tables)
    with Session(engine) as session:
        now = timezone.utcnow()
        kind = {"run_type": "manual", "state": "running", "run_after": now, "log_template_id": None}
        session.execute(insert(DagRun.__table__).values(id=1, dag_id=JOB, run_id=RUN, data_interval_end=now, **kind))
        place = {"dag_run_id": 1, "dag_id": JOB, "run_id": RUN}
        for batch in BATCHES:
            items = [{"api": "echo", "n": n} for n in range(batch.first, batch.end)]
            session.execute(insert(XComModel).values(**place, task_id=PLAN, map_index=-1, key=batch.key, value=items))
            state = "running" if batch.number == 2 else "failed"
            one = {"dag_id": JOB, "run_id": RUN, "task_id": PAYLOAD, "map_index": batch.number, "state": state}
            session.execute(insert(TaskInstance).values(**one, pool="p", pool_slots=1, try_number=1, max_tries=999))
            for row, indexes in enumerate(journal_of(batch)):
                bodies, ended = [], []
                for index in indexes:
                    body = json.dumps({"error": "no", "message": "luck"} if index % 3 == 2 else {"n": index})
                    end = Ended(index % 3 != 2, 1, 1000 * index, 5, 200, len("".join(bodies)), len(body))
                    ended.append((index, end))
                    bodies.append(body)
                pieces, packed = pack("".join(bodies))
                written = Row(ended, life=0, plan="plan", pieces=len(pieces), packed=packed).written()
                stored = {row_key(row): written, **{piece_key(row, n): piece for n, piece in enumerate(pieces)}}
                for key, value in stored.items():
                    at = {**place, "task_id": PAYLOAD, "map_index": batch.number, "key": key}
                    session.execute(insert(Store).values(**at, value=json.dumps(value)))
        session.commit()
        yield session


def journal_of(batch: Any) -> list[list[int]]:
    """In which rows the items of a batch ended: the first ones in one, the last in another, the run's last not yet."""
    *before, last = range(batch.first, batch.end)
    return [before, [last]] if batch.number < 2 else []


def rows(session: Session) -> BatchedRows:
    return BatchedRows(session, JOB, RUN, [batch.written() for batch in BATCHES])


def reads(session: Session) -> list[tuple[Any, ...]]:
    """The parameters of what is asked of the database from now on."""
    asked: list[tuple[Any, ...]] = []
    event.listen(session.get_bind(), "before_cursor_execute", lambda *told: asked.append(told[3]))
    return asked


@pytest.mark.parametrize("pieces", [1, 3, 200])
def test_outcomes_are_the_same_however_many_rows_a_query_reads(
    session: Session, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    monkeypatch.setattr(batches, "PIECES", pieces)
    asked = reads(session)
    found = dict(rows(session).outcomes(list(range(7))))
    assert list(found) == [0, 1, 2, 3, 4, 5], "the last has not ended"
    assert [outcome.get("result") for outcome in found.values()] == [
        {"n": 0}, {"n": 1}, None, {"n": 3}, {"n": 4}, None,
    ]  # fmt: skip
    assert [index for index, outcome in found.items() if outcome["status"] == "failed"] == [2, 5]
    bodies = [[word for word in words if str(word).startswith("body-")] for words in asked]
    assert sum(map(len, bodies)) == (4 if pieces < 200 else 2), "each once; a key stands for those of all batches"
    assert sum(map(bool, bodies)) == {1: 4, 3: 2, 200: 1}[pieces]


def test_states_and_rows_say_the_same(session: Session) -> None:
    found = rows(session)
    states = found.states()
    assert states == {0: "success", 1: "success", 2: "failed", 3: "success", 4: "success", 5: "failed", 6: None}
    assert {index: row.state for index, row in found.known.items()} == states


def test_a_page_reads_the_batches_that_it_shows(session: Session) -> None:
    found = rows(session)
    asked = reads(session)
    found.only([3, 4])
    assert [found.items[n]["n"] for n in (3, 4)] == [3, 4]
    assert list(found.known) == [3, 4]
    assert [index for index, _ in found.outcomes([3, 4])] == [3, 4]
    items, journal, _ = asked
    assert BATCHES[1].key in items
    assert journal == (1, PAYLOAD, 1, "log-%"), "of the second batch alone"
    assert found.task_of(4) == 1


def test_a_list_that_is_made_anew_meanwhile_is_read_again(session: Session) -> None:
    """Clearing a run takes all at once what its plan had left, between two reads."""
    from airflow.models.xcom import XComModel

    found = rows(session)
    assert found.items[0]["n"] == 0
    session.execute(delete(XComModel).where(XComModel.key == BATCHES[1].key))
    with pytest.raises(Overtaken):
        found.items[3]
