from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_jobs_plugin import Extended
from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.spec import PythonTarget
from airflow_jobs_plugin.targets import open_target
from airflow_jobs_plugin.targets.base import Limits, Result

from .conftest import attempt

ALLOWED = Limits(python_targets=("acme.jobs:*",))


@pytest.fixture(autouse=True)
def acme() -> Iterator[types.ModuleType]:
    """A module of a user's, importable as acme.jobs."""
    package, module = types.ModuleType("acme"), types.ModuleType("acme.jobs")
    package.__path__ = []  # type: ignore[attr-defined]

    def add(a: int, b: int = 0) -> int:
        return a + b

    async def add_later(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    def shapes() -> dict[str, Any]:
        return {"tuple": (1, (2,)), "text": "ä"}

    def explode(kind: str) -> None:
        raise {"value": ValueError("bad value"), "exit": SystemExit(3), "stop": StopIteration()}[kind]

    def give_up() -> None:
        raise AttemptError("sold-out", "nothing left", retriable=False)

    def weird() -> Any:
        return {"when": time.gmtime, "x": object()}

    def own_timeout() -> None:
        raise TimeoutError("the database did not answer")

    class SoldOut(Exception):
        retriable = False

    def sold_out() -> None:
        raise SoldOut("nothing left")

    def greedy(items: list[int]) -> int:
        items.append(1)
        return len(items)

    def lazy(a: int) -> Any:
        return add_later(a, 1)

    def large() -> str:
        return "x" * 1000

    def extend(payloads: Any) -> Extended:
        return Extended("v", payloads=payloads)

    released = threading.Event()

    def stall() -> None:
        released.wait(30)

    for function in (
        add,
        add_later,
        shapes,
        explode,
        give_up,
        weird,
        own_timeout,
        stall,
        sold_out,
        greedy,
        lazy,
        large,
        extend,
    ):
        function.__module__ = "acme.jobs"
    module.__dict__.update(
        {
            f.__name__: f
            for f in (
                add,
                add_later,
                shapes,
                explode,
                give_up,
                weird,
                own_timeout,
                stall,
                sold_out,
                greedy,
                lazy,
                extend,
            )
        },
        _private=add,
        constant=5,
        large=large,
        getoutput=subprocess.getoutput,
    )
    sys.modules.update({"acme": package, "acme.jobs": module})
    yield module
    released.set()
    del sys.modules["acme"], sys.modules["acme.jobs"]


async def run(
    api: str, limits: Limits = ALLOWED, module: str | None = None, seconds: float = 5, **parameters: Any
) -> Result:
    async with open_target(PythonTarget(type="python", module=module), limits) as caller:
        return await caller(attempt(api, parameters, timeout=seconds))


async def error_of(*arguments: Any, **options: Any) -> AttemptError:
    with pytest.raises(AttemptError) as caught:
        await run(*arguments, **options)
    return caught.value


async def test_functions_are_called_with_the_parameters_as_keywords() -> None:
    assert await run("acme.jobs:add", a=1, b=2) == Result(3)
    assert await run("acme.jobs:add_later", a=1, b=2) == Result(3)
    assert (await run("add", module="acme.jobs", a=1)).value == 1


async def test_tuples_become_lists_as_in_json() -> None:
    assert (await run("acme.jobs:shapes")).value == {"tuple": [1, [2]], "text": "ä"}


async def test_a_function_may_append_items_to_the_run() -> None:
    assert await run("acme.jobs:extend", payloads=[{"api": "b"}]) == Result("v", extended_payloads=[{"api": "b"}])
    assert (await run("acme.jobs:extend", payloads=[])).extended_payloads == []
    assert (await run("acme.jobs:add", a=1)).extended_payloads is None


def test_what_such_a_function_returns_is_imported_without_airflow() -> None:
    code = "import sys; from airflow_jobs_plugin import Extended; print(Extended(1), 'airflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Extended(value=1, payloads=()) False"


@pytest.mark.parametrize(
    ("payloads", "code"),
    [
        ({"api": "b"}, "invalid-extended-payloads"),
        ("b", "invalid-extended-payloads"),
        (None, "invalid-extended-payloads"),
        (["x" * 1000], "result-too-big-error"),
    ],
)
async def test_payloads_that_cannot_be_appended_end_the_item(payloads: Any, code: str) -> None:
    error = await error_of("acme.jobs:extend", Limits(max_result_bytes=500, python_targets=("*",)), payloads=payloads)
    assert (error.code, error.retriable) == (code, False)
    assert code != "invalid-extended-payloads" or "acme.jobs:extend returned payloads that are" in error.message


@pytest.mark.parametrize(
    ("api", "limits", "message"),
    [
        ("acme.jobs:add", Limits(), "is not allowed; allow it in [jobs] python_targets"),
        ("acme.jobs:add", Limits(python_targets=("acme.jobs:add_later", "acme:*")), "is not allowed"),
        ("os:system", ALLOWED, "os:system is not allowed"),
        ("acme.jobs.sub:add", Limits(python_targets=("acme.jobs.*:*",)), "cannot be imported"),
        ("acme.jobs:missing", ALLOWED, "has no missing"),
        ("acme.jobs:getoutput", ALLOWED, "comes from another module"),
        ("acme.jobs:constant", ALLOWED, "is not a function"),
        ("acme.jobs:_private", ALLOWED, "is private"),
        ("_acme:add", Limits(python_targets=("*",)), "is private"),
        ("acme.jobs:add.__globals__", Limits(python_targets=("*",)), "is not a function as module:function"),
        ("add", ALLOWED, "is not a function as module:function"),
        (":add", ALLOWED, "is not a function as module:function"),
    ],
)
async def test_only_allowed_public_functions_are_called(api: str, limits: Limits, message: str) -> None:
    error = await error_of(api, limits, a=1)
    assert (error.code, error.retriable) == ("configuration-error", False)
    assert message in error.message


async def test_wrong_parameters_are_told_before_the_call_and_not_retried() -> None:
    error = await error_of("acme.jobs:add", c=1)
    assert (error.code, error.retriable) == ("invalid-parameters", False)
    assert "'a'" in error.message


@pytest.mark.parametrize(
    ("kind", "text"), [("value", "ValueError: bad value"), ("exit", "SystemExit: 3"), ("stop", "StopIteration: ")]
)
async def test_whatever_a_function_raises_fails_the_attempt(kind: str, text: str) -> None:
    error = await error_of("acme.jobs:explode", kind=kind)
    assert (error.code, error.message, error.retriable) == ("exception", text, True)


async def test_a_function_may_end_its_item_itself() -> None:
    error = await error_of("acme.jobs:give_up")
    assert (error.code, error.message, error.retriable) == ("sold-out", "nothing left", False)


async def test_an_exception_may_say_that_another_attempt_is_useless() -> None:
    error = await error_of("acme.jobs:sold_out")
    assert (error.code, error.message, error.retriable) == ("exception", "SoldOut: nothing left", False)


async def test_a_function_cannot_change_what_the_next_attempt_gets() -> None:
    made = attempt("acme.jobs:greedy", {"items": []})
    async with open_target(PythonTarget(type="python"), ALLOWED) as caller:
        assert [(await caller(made)).value for _ in range(2)] == [1, 1]


async def test_a_coroutine_that_a_plain_function_returns_is_awaited() -> None:
    assert (await run("acme.jobs:lazy", a=1)).value == 2


async def test_results_that_are_not_json_or_too_large_are_errors() -> None:
    assert (await error_of("acme.jobs:weird")).code == "invalid-response"
    small = Limits(max_result_bytes=100, python_targets=("*",))
    error = await error_of("acme.jobs:large", small)
    assert (error.code, error.retriable) == ("result-too-big-error", False)


async def test_a_function_that_stalls_is_left_behind() -> None:
    before = time.monotonic()
    error = await error_of("acme.jobs:stall", seconds=0.2)
    assert (error.code, error.message) == ("timeout", "acme.jobs:stall did not return within 0.2 s")
    assert time.monotonic() - before < 2


def test_the_loop_closes_without_waiting_for_a_stalled_function() -> None:
    before = time.monotonic()
    with pytest.raises(AttemptError):
        asyncio.run(run("acme.jobs:stall", seconds=0.2))
    assert time.monotonic() - before < 2


async def test_a_time_out_of_the_functions_own_is_its_own_error() -> None:
    error = await error_of("acme.jobs:own_timeout")
    assert (error.code, error.message) == ("exception", "TimeoutError: the database did not answer")
