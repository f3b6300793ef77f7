"""A batch that comes again after deaths of its worker: what it notes before it calls, and whom it calls alone."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_jobs_plugin.errors import AttemptError, ItemFailedError
from airflow_jobs_plugin.run.attempts import Stopping
from airflow_jobs_plugin.run.batch import ALONE, MAX_DEATHS, drive
from airflow_jobs_plugin.run.batches import Batch
from airflow_jobs_plugin.run.items import plan_items
from airflow_jobs_plugin.run.journal import replay, row_key
from airflow_jobs_plugin.run.recording import Journal
from airflow_jobs_plugin.run.retry import RETRIES
from airflow_jobs_plugin.spec import Job

COUNT = 6


class World:
    """What a batch's task instance sees of Airflow, with a state store that outlives it."""

    def __init__(self, lanes: int) -> None:
        payload = [{"api": f"{__name__}:call", "parameters": {"n": n}} for n in range(COUNT)]
        configuration = {"itemsPerTask": COUNT, "maxConcurrentRequests": lanes}
        definition = {"id": "j", "payload": payload, "target": {"type": "python"}, "configuration": configuration}
        self.job = Job.model_validate(definition)
        self.items = plan_items(self.job, None, 1000)
        self.values: dict[str, str] = {}
        self.lock = threading.Lock()
        self.now: set[int] = set()
        self.seen: dict[int, set[int]] = {}
        """By item: what was in flight with it."""
        self.noted: dict[int, bool] = {}
        """Whether the journal knew that it was, when it was called."""

    def get(self, key: str) -> Any:
        return json.loads(self.values[key]) if key in self.values else None

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.values[key] = json.dumps(value)

    def rows(self) -> list[Any]:
        return [self.get(key) for key in sorted(self.values) if key.startswith("log-")]

    def died(self, times: int, *flying: int) -> None:
        """Have the worker die while these were called."""
        for _ in range(times):
            number = len(self.rows())
            before = self.rows()[-1].get("flying", []) if number else []
            row = {"life": 0, "plan": "p", "pieces": 0, "packed": False, "flying": list(flying), "lost": before}
            self.set(row_key(number), row)

    def drive(self, tries: int) -> None:
        ti = SimpleNamespace(
            dag_id="j",
            run_id="r",
            try_number=tries,
            max_tries=RETRIES,
            xcom_pull=lambda **which: self.items,
            xcom_push=lambda key, value: None,
            get_task_states=lambda **which: {},
            get_dag=lambda dag_id: SimpleNamespace(is_paused=False),
        )
        run = SimpleNamespace(run_after=datetime(2026, 11, 25, tzinfo=UTC))
        context: Any = {"ti": ti, "dag_run": run, "task_state_store": self}
        global world
        world = self
        drive(context, self.job, Batch(0, 0, COUNT, "p"), Stopping("payload"))


world: World


def call(n: int) -> None:
    noted = n in world.rows()[-1].get("flying", []) if world.rows() else False
    with world.lock:
        world.noted[n] = noted
        world.now.add(n)
        for other in world.now:
            world.seen.setdefault(other, set()).update(world.now)
    time.sleep(0.05)
    with world.lock:
        world.now.discard(n)


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__JOBS__PYTHON_TARGETS", f"{__name__}:call")


def test_what_is_called_after_a_death_is_noted_before_it_is_called() -> None:
    first, second = World(3), World(3)
    first.drive(1)
    assert not any(first.noted.values()), "a batch that has not died does not wait for its journal"
    second.drive(2)
    assert second.noted == dict.fromkeys(range(COUNT), True)


def test_those_that_went_down_together_several_times_are_called_alone() -> None:
    world = World(4)
    world.died(ALONE, 0, 2, 3)
    world.drive(ALONE + 1)
    assert {n: seen for n, seen in world.seen.items() if n in (0, 2, 3)} == {0: {0}, 2: {2}, 3: {3}}
    assert world.seen[4] == {4, 5}, "the others are not"
    standing = replay(world.rows())
    assert sorted(standing.ended) == list(range(COUNT))
    assert all(ended.ok for ended in standing.ended.values())


def test_an_item_whose_worker_died_each_time_fails_and_is_not_called_again() -> None:
    world = World(2)
    world.died(MAX_DEATHS, 1)
    with pytest.raises(ItemFailedError, match="1 of 6 items failed, the first is 1"):
        world.drive(MAX_DEATHS + 1)
    assert sorted(world.seen) == [0, 2, 3, 4, 5]
    assert not replay(world.rows()).ended[1].ok


def test_nobody_waits_longer_than_the_policy_says_after_a_clock_went_back() -> None:
    world = World(2)
    noted = round((time.time() + 3600) * 1000)  # an hour from now, by the clock as it was
    world.set(row_key(0), {"life": 0, "plan": "p", "pieces": 0, "packed": False, "tried": [[1, 1, noted]]})
    world.drive(2)
    ended = replay(world.rows()).ended
    assert (len(ended), ended[1].attempts) == (COUNT, 2)


def test_a_batch_whose_last_item_fills_a_row_comes_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "due", True)
    world = World(1)
    driving = threading.Thread(target=world.drive, args=(1,), daemon=True)
    driving.start()
    driving.join(30)
    assert not driving.is_alive()
    assert len(replay(world.rows()).ended) == COUNT


def test_a_batch_does_not_succeed_with_an_item_of_which_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError("such as a log that cannot be written")

    monkeypatch.setattr(Journal, "ended", broken)
    with pytest.raises(AttemptError, match="6 of 6 items have not ended") as caught:
        World(3).drive(1)
    assert caught.value.retriable
