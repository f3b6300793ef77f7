from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction

from airflow_jobs_plugin.errors import AttemptError, ItemFailedError
from airflow_jobs_plugin.run.retry import RETRIES, ItemRetryPolicy, attempt_number
from airflow_jobs_plugin.spec import RetryPolicy

BACKOFF = RetryPolicy.model_validate(
    {"maximumAttempts": 4, "initialInterval": "1s", "backoffCoefficient": 3, "maximumInterval": "5s"}
)


def decide(error: BaseException, try_number: int, max_tries: int = RETRIES, policy: RetryPolicy = BACKOFF) -> Any:
    task = SimpleNamespace(item={"retry": policy.model_dump(by_alias=True)})
    return ItemRetryPolicy().evaluate(error, try_number, max_tries, {"task": task})  # type: ignore[typeddict-item]


def test_waits_are_exact_and_attempts_end_where_the_item_says() -> None:
    decisions = [decide(AttemptError("http-error", "x"), n) for n in range(1, 5)]
    assert [d.action for d in decisions] == [RetryAction.RETRY] * 3 + [RetryAction.FAIL]
    assert [d.retry_delay for d in decisions[:3]] == [timedelta(seconds=s) for s in (1, 3, 5)]


def test_what_cannot_be_helped_is_not_retried() -> None:
    assert decide(AttemptError("x", "y", retriable=False), 1).action == RetryAction.FAIL
    assert decide(ItemFailedError("x", "y", retriable=False), 1).action == RetryAction.FAIL
    assert decide(RuntimeError("Airflow itself"), 1).action == RetryAction.RETRY


def test_clearing_an_item_starts_its_attempts_anew() -> None:
    # Airflow raises max_tries by the tries that were used up.
    assert [attempt_number(n, RETRIES) for n in (1, 2, 4)] == [1, 2, 4]
    assert [attempt_number(n, RETRIES + 4) for n in (5, 6, 8)] == [1, 2, 4]
    assert decide(AttemptError("x", "y"), 8, RETRIES + 4).action == RetryAction.FAIL
    assert decide(AttemptError("x", "y"), 7, RETRIES + 4).retry_delay == timedelta(seconds=5)


@pytest.mark.parametrize("context", [None, {}, {"task": SimpleNamespace()}, {"task": SimpleNamespace(item={})}])
def test_a_policy_that_cannot_be_read_fails_the_item_instead_of_retrying_it_a_thousand_times(context: Any) -> None:
    assert ItemRetryPolicy().evaluate(ValueError(), 1, RETRIES, context).action == RetryAction.FAIL
