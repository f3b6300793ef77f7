"""Airflow's REST API, as far as the demo, the tests and the benchmarks need it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx

from airflow_jobs_plugin.demo.processes import StackError

FINISHED = frozenset({"success", "failed"})


class AirflowClient:
    """A synchronous client of one Airflow whose every visitor is an admin.

    :param base_url: ``http://127.0.0.1:<port>``
    :param check: called between polls; raises when waiting has become pointless
    """

    def __init__(self, base_url: str, check: Callable[[], None] = lambda: None) -> None:
        self.base_url = base_url
        self._check = check
        self._token = ""
        self._lock = threading.Lock()
        # trust_env: a proxy of the user's shell has no business with 127.0.0.1.
        self.http = httpx.Client(base_url=base_url, timeout=30, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def token(self) -> str:
        """Return an admin's access token; it is fetched once."""
        with self._lock:
            if not self._token:
                self._token = self._fetch_token()
            return self._token

    def log_in(self) -> str:
        """Fetch another token in place of one that is not valid any more, and return it."""
        with self._lock:
            self._token = self._fetch_token()
            return self._token

    def _fetch_token(self) -> str:
        response = self.http.get("/auth/token")
        response.raise_for_status()
        return str(response.json()["access_token"])

    def request(self, method: str, url: str, **kw: Any) -> httpx.Response:
        """Send any request with the token; whatever the status, return the response."""
        headers = {"Authorization": f"Bearer {self.token()}", **kw.pop("headers", {})}
        return self.http.request(method, url, headers=headers, **kw)

    def api(self, method: str, path: str, **kw: Any) -> Any:
        """Call ``/api/v2`` + *path* and return the parsed body (None when it is empty).

        :raises httpx.HTTPStatusError: any status but 2xx; its message has the response's text
        """
        response = self.request(method, f"/api/v2/{path.lstrip('/')}", **kw)
        if not response.is_success:
            raise httpx.HTTPStatusError(
                f"{method} {response.url}: {response.status_code} {response.text[:2000]}",
                request=response.request,
                response=response,
            )
        return response.json() if response.content else None

    def pages(self, path: str, key: str, **params: Any) -> list[dict[str, Any]]:
        """Return the entries of all pages of a listing whose entries are under *key*."""
        entries: list[dict[str, Any]] = []
        while True:
            page = self.api("GET", path, params={**params, "limit": 100, "offset": len(entries)})
            entries += page[key]
            if not page[key] or len(entries) >= page["total_entries"]:
                return entries

    def wait_until(self, what: str, probe: Callable[[], Any], timeout: float, interval: float = 0.25) -> Any:
        """Call *probe* until it returns something true, and return that.

        :raises StackError: not within *timeout* seconds, or a component of Airflow has ended
        """
        end = time.monotonic() + timeout
        while True:
            self._check()
            if found := probe():
                return found
            if time.monotonic() > end:
                raise StackError(f"not within {timeout:g} s: {what}")
            time.sleep(interval)

    def wait_for_dag(self, dag_id: str, timeout: float = 60) -> dict[str, Any]:
        """Wait until the DAG processor has stored the DAG and return it.

        :raises StackError: with Airflow's import errors, when it does not appear
        """

        def probe() -> Any:
            response = self.request("GET", f"/api/v2/dags/{quote(dag_id, safe='')}")
            return response.json() if response.is_success and not response.json()["is_stale"] else None

        try:
            found: dict[str, Any] = self.wait_until(f"DAG {dag_id}", probe, timeout)
        except StackError as error:
            errors = self.api("GET", "importErrors")["import_errors"]
            details = "\n".join(f"{e['filename']}:\n{e['stack_trace']}" for e in errors)
            raise StackError(f"{error}\n{details}".rstrip()) from None
        return found

    def unpause(self, dag_id: str, paused: bool = False) -> None:
        """Set the DAG's pause switch."""
        self.api("PATCH", f"dags/{quote(dag_id, safe='')}", json={"is_paused": paused})

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, note: str | None = None) -> str:
        """Start a run now and return its id."""
        body: dict[str, Any] = {"logical_date": None, "conf": conf or {}}
        if note is not None:
            body["note"] = note
        run = self.api("POST", f"dags/{quote(dag_id, safe='')}/dagRuns", json=body)
        return str(run["dag_run_id"])

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run as Airflow describes it."""
        run: dict[str, Any] = self.api("GET", self._run(dag_id, run_id))
        return run

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 120) -> dict[str, Any]:
        """Wait until the run has ended, well or not, and return it."""

        def probe() -> Any:
            run = self.dag_run(dag_id, run_id)
            return run if run["state"] in FINISHED else None

        run: dict[str, Any] = self.wait_until(f"end of run {run_id} of {dag_id}", probe, timeout)
        return run

    def task_instances(self, dag_id: str, run_id: str, task_id: str | None = None) -> list[dict[str, Any]]:
        """Return all task instances of a run, mapped ones one by one; of one task if *task_id* is given."""
        params = {"order_by": "map_index"} | ({"task_id": task_id} if task_id else {})
        return self.pages(f"{self._run(dag_id, run_id)}/taskInstances", "task_instances", **params)

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """Return the value that a task instance has stored under *key*, deserialized.

        :raises httpx.HTTPStatusError: 404 when there is none
        """
        path = f"{self._run(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}/xcomEntries"
        params = {"map_index": map_index, "deserialize": False, "stringify": False}
        return self.api("GET", f"{path}/{quote(key, safe='')}", params=params)["value"]

    def task_log(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, attempt: int = 1) -> str:
        """Return the log of one try of a task instance as plain text."""
        path = f"/api/v2/{self._run(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}/logs/{attempt}"
        params = {"map_index": map_index, "full_content": True}
        return self.request("GET", path, params=params, headers={"Accept": "application/x-ndjson"}).text

    @staticmethod
    def _run(dag_id: str, run_id: str) -> str:
        return f"dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
