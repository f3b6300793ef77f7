"""Requests made up by the thousand, through the whole REST API on a database of its own.

Real routes, real authentication, a real SQLite database; what is left out is the socket, so that headers and paths can
be such as no client would send::

    python -m tests.fuzz.bodies --inputs 20000 --seed 1
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import tempfile
import time
from typing import Any
from urllib.parse import quote, unquote

from tests.fuzz import making, running, seeds

#: Seconds of the processor that one request may take.
SECONDS = 2.0
LONGEST_MESSAGE, LONGEST_ANSWER = 2000, 400_000
ERROR = {"code", "category", "message", "details", "correlationId", "retirable"}
IDS = ["fuzzed", "least", "..", "a/b", "%2e%2e", "x" * 201, "a\0", "é", "a\n", "jobs", "a b", "'", "*"]
#: What a body may be for, by route: (method, path, what is in the body).
ROUTES = [
    *[("POST", "/jobs/validate", "definition")] * 8,
    *[("POST", "/jobs", "definition")] * 3,
    *[("PUT", "/jobs/{id}", "definition")] * 3,
    *[("POST", "/schedules/preview", "preview")] * 3,
    *[("POST", "/jobs/{id}/trigger", "trigger")] * 2,
    ("POST", "/jobs/{id}/runs/{run}/payloads", "append"),
    ("POST", "/jobs/{id}/runs/{run}/terminate", "terminate"),
    ("POST", "/jobs/{id}/runs/{run}/redeliver", "terminate"),
    ("GET", "/jobs", ""),
    ("GET", "/jobs/{id}", ""),
    ("GET", "/jobs/{id}/runs", ""),
    ("GET", "/jobs/{id}/runs/{run}", ""),
    ("GET", "/jobs/{id}/runs/{run}/payloads", ""),
    ("GET", "/jobs/{id}/runs/{run}/results", ""),
    ("DELETE", "/jobs/{id}", ""),
]
QUERIES = ["search", "state", "source", "pageSize", "pageNumber", "sortBy", "status", "type", "format", "force", "x"]
HEADERS = [
    "if-match",
    "idempotency-key",
    "x-api-key",
    "content-encoding",
    "accept",
    "origin",
    "host",
    "x-forwarded-host",
]


class Api:
    """The app on a database of its own, in this process."""

    def __init__(self) -> None:
        import airflow.models
        from airflow import settings
        from airflow.api_fastapi.app import create_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
        from airflow.models.base import Base

        from airflow_jobs_plugin.api.app import create_app
        from airflow_jobs_plugin.service import operations

        airflow.models.import_all_models()
        settings.initialize()
        Base.metadata.create_all(settings.engine)
        manager = create_auth_manager()
        manager.init()
        self.token = manager.generate_jwt(SimpleAuthManagerUser(username="fuzz", role="admin"))
        # There is no DAG processor that a creation could wait for.
        operations.PATIENCE = 0
        logging.disable(logging.CRITICAL)
        self.app = create_app()
        self.loop = asyncio.new_event_loop()

    def ask(
        self, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """One request, as a server hands it to the app. Raises what the app raises."""
        sent: list[Any] = []
        pieces = [body[: len(body) // 2], body[len(body) // 2 :]]

        async def receive() -> Any:
            if not pieces:
                await asyncio.sleep(30)
            part = pieces.pop(0) if pieces else b""
            return {"type": "http.request", "body": part, "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http", "path": unquote(path),
            "raw_path": path.encode(), "query_string": query, "root_path": "", "headers": headers, "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        self.loop.run_until_complete(self.app(scope, receive, send))
        start = sent[0]
        answered = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
        return start["status"], answered, b"".join(message.get("body", b"") for message in sent[1:])

    def judge(self, seed: str, number: int) -> str:
        """Make the request of that number, and judge its answer."""
        rng = making.rng_of(seed, number)
        method, path, kind = rng.choice(ROUTES)
        target = "/api/v1" + path.format(id=quote(_id(rng), safe=""), run=quote(_hostile(rng) or "x", safe=""))
        query = b"&".join(
            f"{rng.choice(QUERIES)}={quote(_hostile(rng), safe='')}".encode() for _ in range(rng.choice((0, 0, 1, 2)))
        )
        body = _body(rng, kind)
        headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {self.token}".encode())]
        if kind:
            headers += [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
        for _ in range(rng.choice((0, 0, 0, 1))):
            # As a server does: what it takes for the end of a header cannot come from a client.
            raw = _hostile(rng).encode("utf-8", "replace").translate(None, b"\0\r\n")[:8000]
            headers.append((rng.choice(HEADERS).encode(), raw))
        began = time.process_time()
        status, answered, content = self.ask(method, target, query, headers, body)
        taken = time.process_time() - began
        _hold(taken < SECONDS, f"{method} {path} took {taken:.2f} s", body[:300])
        _judge_answer(status, answered, content, f"{method} {path}")
        if status == 201:
            self._read_back(json.loads(content)["id"])
        return "accepted" if status < 300 and not content.startswith(b'{"valid":false') else "refused"

    def _read_back(self, job_id: str) -> None:
        """A job that was created can be listed and read, written back as it is read, and deleted."""
        own = [(b"host", b"localhost"), (b"authorization", f"Bearer {self.token}".encode())]
        for path in ("", f"/{job_id}"):
            status, headers, content = self.ask("GET", f"/api/v1/jobs{path}", b"", own, b"")
            _judge_answer(status, headers, content, "reading back")
            _hold(status == 200, "a job cannot be read back", content[:500])
        read = json.loads(content)
        fields = ("configuration", "payload", "schedule", "sink", "target", "proxy", "auth_session", "notifications")
        body = json.dumps({name: read[name] for name in fields if read[name] is not None}).encode()
        json_own = [*own, (b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
        status, _, content = self.ask("PUT", f"/api/v1/jobs/{job_id}", b"", json_own, body)
        _hold(status == 200, "a job cannot be written back as it was read", content[:800], body[:800])
        status, _, content = self.ask("DELETE", f"/api/v1/jobs/{job_id}", b"", own, b"")
        _hold(status == 204, "a job cannot be deleted", content[:500])


def _judge_answer(status: int, headers: dict[str, str], content: bytes, what: str) -> None:
    for name, value in headers.items():
        _hold(not any(c in value for c in "\r\n\0"), f"{what}: a header", name, value)
    _hold(len(content) <= LONGEST_ANSWER, f"{what}: an answer of {len(content)} bytes")
    text = content.decode()
    if "json" in headers.get("content-type", "") and "ndjson" not in headers["content-type"]:
        answer = json.loads(text, parse_constant=lambda name: _hold(False, f"{what}: {name} in an answer"))
    else:
        answer = None
    if status >= 400:
        _hold(status < 500, f"{what}: answered {status}", text[:1000])
        _hold(isinstance(answer, dict) and set(answer) == ERROR, f"{what}: an error of another shape", text[:500])
        _hold(
            answer["message"].isprintable() and len(answer["message"]) <= 100 * LONGEST_MESSAGE,
            f"{what}: a message",
            answer["message"][:300],
        )
        for said in (
            *(detail["message"] for detail in answer["details"]),
            *(detail["path"] for detail in answer["details"]),
        ):
            _hold(len(said) <= LONGEST_MESSAGE and said.isprintable(), f"{what}: a message", said[:300])
    elif isinstance(answer, dict) and answer.get("valid") is False:
        for fault in answer["errors"]:
            said = f"{fault['path']}: {fault['message']}"
            _hold(
                fault["message"] and len(said) <= LONGEST_MESSAGE and said.isprintable(), f"{what}: a fault", said[:300]
            )


def _hold(condition: object, what: str, *shown: object) -> None:
    if not condition:
        raise AssertionError(f"{what}: {', '.join(repr(one)[:600] for one in shown)}")


def _id(rng: random.Random) -> str:
    return rng.choice(IDS) if rng.random() < 0.8 else _hostile(rng) or "x"


def _hostile(rng: random.Random) -> str:
    found = rng.choice(seeds.VALUES)
    found = (
        found
        if isinstance(found, str)
        else rng.choice(("1", "-1", "0", "9" * 30, "nan", "PAUSED", "createdAt:desc", "-id", "jsonl", "true"))
    )
    return found.encode("utf-8", "replace").decode()


def _body(rng: random.Random, kind: str) -> bytes:
    if not kind:
        return b""
    if rng.random() < 0.01:
        ending, data = making.bomb(rng)
        return data
    definition = making.definition(rng)
    definition = definition if isinstance(definition, dict) else {"id": "x", "payload": definition}
    payload = definition.get("payload")
    made: Any = {
        "definition": definition,
        "preview": {"schedule": definition.get("schedule"), "count": rng.choice((10, 10, 1000)), "after": None},
        "trigger": {"payload": payload, "note": "n"},
        "append": {"payload": payload, "parent": 0},
        "terminate": {"reason": "r"},
    }[kind]
    if kind != "definition" and rng.random() < 0.6:
        made = making.changed(rng, made)
    try:
        data = json.dumps(made, ensure_ascii=rng.random() < 0.7).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return b"{" * 1000
    return making.torn(rng, data) if rng.random() < 0.1 else data


def make() -> running.Judge:
    """What a process judges with."""
    home = os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(
        prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    )
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{home}/airflow.db"
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] = "fuzz:admin"
    os.environ["AIRFLOW__API_AUTH__JWT_SECRET"] = "a secret of the fuzzer's own, of no use to anybody else, but long"
    api = Api()
    for number in range(20):
        # What is imported and built by the first request is no input's time.
        try:
            api.judge("warm", number)
        except AssertionError:
            continue
    return api.judge


if __name__ == "__main__":
    raise SystemExit(running.report(__doc__.partition("\n")[0], make))
