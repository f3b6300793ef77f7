from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.run import outcomes
from airflow_jobs_plugin.run.closing import Counts
from airflow_jobs_plugin.run.outcomes import SLICE, completed, failed, read_outcomes, store_outcome
from airflow_jobs_plugin.run.server import LONGEST_WAIT, PATIENCE
from airflow_jobs_plugin.targets.base import Result


def context_with(stored: Any) -> Any:
    # The output of a mapped task resolves to a sequence of the values that exist, read in slices.
    output = SimpleNamespace(resolve=lambda context: stored)
    return {"dag": SimpleNamespace(get_task=lambda task_id: SimpleNamespace(output=output))}


def test_outcomes_come_in_index_order_over_gaps_and_slices() -> None:
    count = SLICE * 2 + 5
    stored = [completed(n, 1, Result(n, 200)) for n in range(count) if n % 7]
    states: dict[int, str | None] = {n: "success" if n % 7 else "failed" for n in range(count)}
    found = list(read_outcomes(context_with(stored), states, count))
    assert [outcome["index"] for outcome in found] == list(range(count))
    assert [o["result"] for o in found if o["status"] == "completed"] == [n for n in range(count) if n % 7]
    assert {o["error"] for o in found if o["status"] == "failed"} == {"no-outcome"}


class Slices:
    """Values as Airflow hands them out, and how many were asked for at a time."""

    def __init__(self, stored: list[dict[str, Any]], most: int = 10**9) -> None:
        self.stored, self.most, self.asked = stored, most, list[int]()

    def __getitem__(self, part: slice) -> list[dict[str, Any]]:
        found = self.stored[part]
        if len(json.dumps(found)) > self.most:
            raise TypeError("Got unexpected response to GetXComSequenceSlice")
        self.asked.append(part.stop - part.start)
        return found


def sized(*sizes: int) -> list[dict[str, Any]]:
    return [completed(n, 1, Result("x" * size, 200)) for n, size in enumerate(sizes)]


def indexes(slices: Slices) -> list[int]:
    count = len(slices.stored)
    states: dict[int, str | None] = dict.fromkeys(range(count), "success")
    return [outcome["index"] for outcome in read_outcomes(context_with(slices), states, count)]


def test_small_outcomes_are_fetched_many_at_a_time_and_never_more_than_fit_if_all_were_large() -> None:
    slices = Slices(sized(*[10_000] * 1000))
    assert indexes(slices) == list(range(1000))
    assert slices.asked[:3] == [SLICE, 128, 128], "256 MiB of the largest results that are allowed"
    large = Slices(sized(*[10] * 32, *[1_000_000] * 200))
    assert indexes(large) == list(range(232))
    assert large.asked[:4] == [SLICE, 128, 4, 4]


def test_a_setting_for_larger_results_makes_slices_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__JOBS__MAX_RESULT_BYTES", str(64 * 1024 * 1024))
    slices = Slices(sized(*[10] * 20))
    assert indexes(slices) == list(range(20))
    assert set(slices.asked) == {4}


def test_a_slice_that_is_too_much_for_the_api_server_is_fetched_in_smaller_ones() -> None:
    slices = Slices(sized(*[10] * 32, *[500_000] * 100), most=10_000_000)
    assert indexes(slices) == list(range(132))
    assert max(slices.asked[1:]) <= 16
    with pytest.raises(TypeError):
        indexes(Slices(sized(10, 10), most=5))


@pytest.mark.parametrize(
    ("state", "stored", "status", "error"),
    [
        ("success", "completed", "completed", None),
        ("failed", "failed", "failed", "http-error"),
        # The process died, or a person intervened, between storing the outcome and reporting the state.
        ("failed", "completed", "failed", "no-outcome"),
        ("success", "failed", "completed", None),
        ("skipped", "completed", "failed", "canceled"),
        ("removed", None, "failed", "canceled"),
        (None, None, "failed", "canceled"),
    ],
)
def test_the_state_has_the_last_word_on_an_outcome(
    state: str | None, stored: str | None, status: str, error: str | None
) -> None:
    kept = {
        "completed": completed(0, 2, Result("r", 200)),
        "failed": failed(0, 2, AttemptError("http-error", "no", status_code=500)),
    }
    (outcome,) = read_outcomes(context_with([kept[stored]] if stored else []), {0: state}, 1)
    assert (outcome["status"], outcome.get("error")) == (status, error)


@pytest.mark.parametrize(
    "value", [10**30, {"__type": "dict", "__var": {"a": 1}}, {"__classname__": "x", "__data__": 1}, [None, "ä", 1.5]]
)
def test_results_pass_through_airflows_serialization_as_they_are(value: Any) -> None:
    from airflow.sdk.serde import deserialize, serialize

    kept = json.loads(json.dumps(serialize(completed(0, 1, Result(value, 200)))))
    (outcome,) = read_outcomes(context_with([deserialize(kept)]), {0: "success"}, 1)
    assert outcome["result"] == value


def test_messages_are_made_fit_for_databases() -> None:
    assert failed(0, 1, AttemptError("x", "a\0b\ud800c"))["message"] == "ab?c"


@pytest.mark.parametrize(
    ("total", "succeeded", "tolerated", "status"),
    [(10, 10, 0, "SUCCESS"), (10, 9, 0, "FAILURE"), (10, 9, 10, "COMPLETED"), (3, 2, 33.3, "FAILURE"),
     (3, 2, 33.4, "COMPLETED"), (1, 0, 100, "COMPLETED"), (1000, 677, 32.3, "COMPLETED"), (1000, 676, 32.3, "FAILURE")],
)  # fmt: skip
def test_a_run_succeeds_within_its_tolerance(total: int, succeeded: int, tolerated: float, status: str) -> None:
    assert Counts(total, succeeded).status(tolerated) == status


class Server:
    """What a task instance pushes to, while time stands still; ``statuses`` of its failures, None where it is away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *statuses: int | None) -> None:
        self.statuses, self.kept, self.now = list(statuses), list[Any](), 0.0
        monkeypatch.setattr(outcomes, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep))

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def xcom_push(self, key: str, value: Any) -> None:
        if self.statuses:
            detail = {"status_code": self.statuses.pop(0)}
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))
        self.kept.append((key, value))

    def store(self) -> None:
        context: Any = {"ti": self}
        store_outcome(context, {"index": 0})


def test_what_a_call_brought_is_kept_when_the_server_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, None, 503, None, 500)
    server.store()
    assert server.kept == [("return_value", {"index": 0})]
    assert server.now == 1 + 2 + 4 + 8


def test_a_server_that_does_not_come_back_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, *[None] * 1000)
    with pytest.raises(AirflowRuntimeError):
        server.store()
    assert PATIENCE - LONGEST_WAIT < server.now <= PATIENCE


def test_what_the_server_refuses_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, 413)
    with pytest.raises(AirflowRuntimeError):
        server.store()
    assert (server.now, server.kept) == (0, [])
