from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue, TypeAdapter

from airflow_jobs_plugin.run.journal import PIECE, Ended, Row, outcome_of, pack, replay, unpack
from airflow_jobs_plugin.run.recording import Journal

JSON_VALUE: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


class Store:
    """A task state store that may fail before it has done what it was told, or break down after it."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.fails_in: int | None = None

    def get(self, key: str) -> Any:
        value = self.rows.get(key)
        return None if value is None else json.loads(value)

    def set(self, key: str, value: Any, *, retention: Any) -> None:
        if self.fails_in is not None:
            if self.fails_in == 0:
                raise ConnectionError("the API server is away")
            self.fails_in -= 1
        # Airflow's takes no tuples, which JSON would have made lists of.
        JSON_VALUE.validate_python(value)
        self.rows[key] = json.dumps(value)


class Kept(Journal):
    def keep(self) -> list[tuple[int, Ended, str]]:
        return self.write() if self.take() else []


def journal(store: Store, life: int = 0, plan: str = "p", count: int = 8) -> Kept:
    return Kept({"task_state_store": store}, life, plan, count)  # type: ignore[typeddict-item]


def error_body(code: str, message: str) -> str:
    return json.dumps({"error": code, "message": message})


def ended(ok: bool = True, attempts: int = 1) -> Ended:
    return Ended(ok, attempts, 1_000, 20, 200 if ok else 503, 0, 0)


def body_of(store: Store, index: int) -> str:
    standing = replay(rows(store))
    found = standing.ended[index]
    pieces, packed = standing.shapes[found.row]
    bodies = unpack((store.get(f"body-{found.row:06d}-{n:03d}") for n in range(pieces)), packed)
    return bodies[found.offset : found.offset + found.length]


def rows(store: Store) -> list[Any]:
    return [store.get(key) for key in sorted(store.rows) if key.startswith("log-")]


def test_what_was_written_is_there_again() -> None:
    store = Store()
    first = journal(store)
    first.flying = {3, 4}
    first.ended(0, ended(), '{"a": 1}')
    first.ended(5, ended(ok=False, attempts=3), error_body("http-error", "no luck"))
    first.tried(2, 1, 99_000)
    kept = first.keep()
    assert [(index, body) for index, _, body in kept][0] == (0, '{"a": 1}')
    first.ended(1, ended(), '"ä€😀"')
    first.sent(0)
    first.flying = {4}
    first.keep()

    again = journal(store).standing
    assert set(again.ended) == {0, 1, 5}
    assert again.tried == {2: (1, 99_000)}
    assert again.sent == {0}
    assert (body_of(store, 0), body_of(store, 1)) == ('{"a": 1}', '"ä€😀"')
    assert json.loads(body_of(store, 5))["error"] == "http-error"
    assert store.get("progress") | {"plan": "", "life": 0} == {
        "plan": "", "life": 0, "rows": 2, "succeeded": 2, "failed": 1, "running": 1, "retrying": 1, "again": 0,
    }  # fmt: skip


def test_nothing_new_writes_nothing() -> None:
    store = Store()
    first = journal(store)
    assert first.keep() == []
    assert store.rows == {}
    first.flying = {1}
    first.keep()
    before = dict(store.rows)
    first.keep()
    assert store.rows == before


def test_what_was_in_flight_when_the_worker_died_is_counted_once_a_death() -> None:
    store = Store()
    first = journal(store)
    first.flying = {2, 3}
    first.keep()
    second = journal(store)
    assert second.standing.deaths == {2: 1, 3: 1}
    second.flying = {3}
    second.keep()
    third = journal(store)
    assert third.standing.deaths == {2: 1, 3: 2}
    third.flying = set()
    third.keep()
    assert journal(store).standing.deaths == {2: 1, 3: 2}


@pytest.mark.parametrize(
    ("states", "anew"),
    [
        ({0: True, 1: True, 2: True}, {0, 1, 2}),
        ({0: True, 1: False, 2: True}, {1}),
        ({0: True, 1: True}, {2}),
    ],
    ids=["nothing had failed", "one had failed", "one had not ended"],
)
def test_clearing_runs_what_had_failed_or_everything(states: dict[int, bool], anew: set[int]) -> None:
    store = Store()
    first = journal(store, count=3)
    for index, ok in states.items():
        first.ended(index, ended(ok), "1" if ok else error_body("x", "y"))
    first.keep()
    second = journal(store, life=2, count=3)
    assert set(range(3)) - set(second.standing.ended) == anew
    second.keep()
    # It stays so for those who look, and for whoever comes after a death.
    assert set(range(3)) - set(replay(rows(store)).ended) == anew
    assert set(range(3)) - set(journal(store, life=2, count=3).standing.ended) == anew


def test_another_plan_voids_everything() -> None:
    store = Store()
    first = journal(store)
    first.ended(0, ended(), "1")
    first.keep()
    assert journal(store, life=1, plan="q").standing.ended == {}


def test_items_of_two_lives_are_two_messages() -> None:
    store = Store()
    first = journal(store, count=2)
    first.ended(0, ended(), "1")
    first.ended(1, ended(ok=False), error_body("x", "y"))
    first.keep()
    second = journal(store, life=4, count=2)
    second.ended(1, ended(), "2")
    second.keep()
    standing = replay(rows(store))
    assert (standing.ended[0].life, standing.ended[1].life) == (0, 4)
    found = outcome_of(1, standing.ended[1], body_of(store, 1), "msg", sent=False)
    assert found["status"] == "completed"
    assert found["result"] == "2"


@given(st.text(max_size=300), st.integers(1, 900))
@settings(max_examples=60)
def test_bodies_are_cut_into_pieces_that_a_database_bears(text: str, times: int) -> None:
    whole = json.dumps(text) * times
    pieces, packed = pack(whole)
    assert unpack(pieces, packed) == whole
    assert all(len(json.dumps(piece)) <= 65_536 for piece in pieces)


def test_what_cannot_be_compressed_is_cut_too() -> None:
    import random

    text = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=400_000))
    pieces, packed = pack(text)
    assert len(pieces) > 3
    assert all(len(piece) <= PIECE for piece in pieces)
    assert unpack(pieces, packed) == text


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_fails_or_dies_what_was_acknowledged_is_there_and_nothing_else(data: st.DataObject) -> None:
    """A journal over many workers, each of which dies somewhere, with a store that fails now and then."""
    store, acknowledged, begun = Store(), dict[int, str](), set[int]()
    for _ in range(data.draw(st.integers(1, 5), "workers")):
        one = journal(store, count=40)
        assert {i: body_of(store, i) for i in one.standing.ended}.items() >= acknowledged.items()
        for index in one.standing.ended:
            assert index in begun
        left = [i for i in range(40) if i not in one.standing.ended]
        for _ in range(data.draw(st.integers(0, 6), "writes")):
            for _ in range(data.draw(st.integers(0, 4), "items")):
                if not left:
                    break
                index = left.pop(data.draw(st.integers(0, len(left) - 1)))
                begun.add(index)
                one.ended(index, ended(), json.dumps({"item": index, "text": "x" * data.draw(st.integers(0, 50))}))
            store.fails_in = data.draw(st.none() | st.integers(0, 3), "fails")
            try:
                for index, _, body in one.keep():
                    acknowledged[index] = body
            except ConnectionError:
                if data.draw(st.booleans(), "dies"):
                    break
            finally:
                store.fails_in = None
    found = replay(rows(store))
    assert {i: body_of(store, i) for i in found.ended}.items() >= acknowledged.items()


def test_counts_that_a_death_has_left_behind_are_mended_when_the_batch_comes_again() -> None:
    store = Store()
    one = journal(store)
    one.ended(0, ended(), "1")
    one.take()
    store.fails_in = 2  # the body, the row, and then the counts
    with pytest.raises(ConnectionError):
        one.write()
    store.fails_in = None
    assert store.get("progress") is None
    journal(store)
    assert store.get("progress")["succeeded"] == 1


def test_a_row_whose_counts_could_not_be_written_says_what_has_ended_the_next_time() -> None:
    store = Store()
    one = journal(store)
    one.ended(0, ended(), "1")
    one.take()
    store.fails_in = 2
    with pytest.raises(ConnectionError):
        one.write()
    store.fails_in = None
    assert [index for index, _, _ in one.write()] == [0]
    assert len(rows(store)) == 1
    assert store.get("progress")["succeeded"] == 1


def test_rows_read_what_they_wrote() -> None:
    row = Row([(3, ended())], [(4, 2, 5)], [6], [7], [8], 1, "p", "failed", 2, True)
    read = Row.read(json.loads(json.dumps(row.written())))
    assert read == row


def test_an_item_that_waits_and_ends_within_one_row_is_counted_once() -> None:
    store = Store()
    first = journal(store, count=1)
    first.tried(0, 1, 99_000)
    first.ended(0, ended(ok=False, attempts=2), "{}")
    first.keep()
    assert first.standing.counts() == {"succeeded": 0, "failed": 1, "running": 0, "retrying": 0, "again": 0}
