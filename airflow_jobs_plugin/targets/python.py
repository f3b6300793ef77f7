"""The python target: a function that the configuration allows, called with the parameters as keywords."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import fnmatch
import importlib
import inspect
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.extended import Extended
from airflow_jobs_plugin.spec import PythonTarget
from airflow_jobs_plugin.spec.base import check_json
from airflow_jobs_plugin.targets.answers import invalid_extended_payloads, too_big
from airflow_jobs_plugin.targets.base import Attempt, Limits, Result

log = logging.getLogger(__name__)

#: Characters of an exception's text that an error keeps.
MESSAGE = 1000


@asynccontextmanager
async def open_python(spec: PythonTarget, limits: Limits) -> AsyncIterator[PythonCaller]:
    """There is nothing to open; the functions are imported when they are called."""
    yield PythonCaller(spec, limits)


class PythonCaller:
    """Calls functions in this process: async ones on its loop, others in a thread of their own."""

    def __init__(self, spec: PythonTarget, limits: Limits) -> None:
        self._spec = spec
        self._limits = limits

    async def __call__(self, attempt: Attempt) -> Result:
        """One call. Raises ``AttemptError``; one that the function itself raises passes as it is."""
        name, function = self._function(attempt.api)
        try:
            inspect.signature(function).bind(**attempt.parameters)
        except TypeError as error:
            raise AttemptError("invalid-parameters", f"{name}: {error}", retriable=False) from None
        except ValueError:  # a builtin without a signature
            pass
        # The function's own, to change as it likes: a later attempt gets what this one got.
        parameters = copy.deepcopy(attempt.parameters)
        limit = asyncio.timeout(attempt.timeout)
        try:
            async with limit:
                if inspect.iscoroutinefunction(function):
                    value = await function(**parameters)
                else:
                    value = await _in_thread(function, parameters)
                if inspect.isawaitable(value):
                    value = await value
        except TimeoutError as error:
            # The function may raise one of its own, which is no matter of the attempt's time.
            if not limit.expired():
                raise self._raised(name, error) from None
            raise AttemptError("timeout", f"{name} did not return within {attempt.timeout:g} s") from None
        except AttemptError:
            raise
        except (Exception, SystemExit) as error:
            raise self._raised(name, error) from None
        if not isinstance(value, Extended):
            return Result(self._checked(name, value))
        if not isinstance(value.payloads, (list, tuple)):
            raise invalid_extended_payloads(f"{name} returned payloads that are a {type(value.payloads).__name__}")
        return Result(self._checked(name, value.value), extended_payloads=self._checked(name, value.payloads))

    def _function(self, api: str) -> tuple[str, Callable[..., Any]]:
        module_name, _, function_name = api.rpartition(":")
        if not module_name and self._spec.module:
            module_name = self._spec.module
        name = f"{module_name}:{function_name}"
        if not module_name or not all(part.isidentifier() for part in (*module_name.split("."), function_name)):
            raise _misconfigured(f"{api!r} is not a function as module:function")
        if any(part.startswith("_") for part in (*module_name.split("."), function_name)):
            raise _misconfigured(f"{name} is private; a job calls public functions only")
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in self._limits.python_targets):
            raise _misconfigured(f"{name} is not allowed; allow it in [jobs] python_targets, for instance {name}")
        try:
            function = getattr(importlib.import_module(module_name), function_name)
        except ImportError as error:
            raise _misconfigured(f"{name} cannot be imported: {error}") from None
        except AttributeError:
            raise _misconfigured(f"the module {module_name} has no {function_name}") from None
        except (Exception, SystemExit) as error:
            raise self._raised(f"importing {module_name}", error) from None
        if not callable(function):
            raise _misconfigured(f"{name} is not a function")
        # A pattern means the functions of its modules, not what these have imported from elsewhere.
        if name not in self._limits.python_targets and getattr(function, "__module__", None) != module_name:
            raise _misconfigured(f"{name} comes from another module; allow it by its full name if it is meant: {name}")
        return name, function

    def _raised(self, name: str, error: BaseException) -> AttemptError:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        # An exception may say of itself that another attempt is useless.
        told = AttemptError("exception", text[:MESSAGE], retriable=getattr(error, "retriable", True) is not False)
        try:
            log.error("%s raised", name, exc_info=error)
        except Exception:  # such as for halves of surrogate pairs, in Airflow's
            log.error("%s raised %s", name, told)
        return told

    def _checked(self, name: str, value: Any) -> Any:
        value = _lists(value)
        try:
            check_json(value)
        except ValueError as error:
            raise AttemptError("invalid-response", f"{name} returned what JSON cannot hold: {error}") from None
        try:
            text = json.dumps(value, ensure_ascii=False)
        except ValueError as error:  # an integer of more digits than Python writes
            raise AttemptError("invalid-response", f"{name} returned what JSON cannot hold: {error}") from None
        if len(text.encode()) > self._limits.max_result_bytes:
            raise too_big(self._limits.max_result_bytes)
        return value


def _misconfigured(message: str) -> AttemptError:
    return AttemptError("configuration-error", message, retriable=False)


def _lists(value: Any, depth: int = 0) -> Any:
    """Tuples as lists, as JSON would write them. What is too deep is left for the check to refuse."""
    if depth > 100:
        return value
    if isinstance(value, (list, tuple)):
        return [_lists(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {key: _lists(item, depth + 1) for key, item in value.items()}
    return value


async def _in_thread(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """Run a function in a daemon thread, which a time-out or a cancellation leaves behind.

    The loop's own executor would be waited for when the loop closes, however long the function takes.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(setter: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():
            setter(outcome)

    def work() -> None:
        try:
            value = context.run(function, **parameters)
        except BaseException as error:
            # A future refuses StopIteration, and would end the loop with these two.
            if isinstance(error, (StopIteration, KeyboardInterrupt, SystemExit)):
                text = f"{type(error).__name__}: {error}"
                error = AttemptError("exception", text[:MESSAGE])
            outcome: tuple[Callable[[Any], None], Any] = (future.set_exception, error)
        else:
            outcome = (future.set_result, value)
        try:
            loop.call_soon_threadsafe(settle, *outcome)
        except RuntimeError:
            pass  # the loop has closed: nobody waits any more

    threading.Thread(target=work, daemon=True, name="python-target").start()
    return await future
