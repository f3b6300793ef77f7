"""The guard in front of Airflow's routes, without an Airflow: what it looks at, and what it leaves as it was."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import airflow.api_fastapi
import pytest
from airflow.models.asset import AssetModel, TaskOutletAssetReference
from airflow.models.base import Base
from airflow.models.dag import DagModel, DagTag
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from airflow_jobs_plugin.api import paused
from airflow_jobs_plugin.control import pausing

TRIGGER = "/api/v2/dags/frozen/dagRuns"


def scope(path: str, method: str = "POST", root: str = "", kind: str = "http") -> dict[str, Any]:
    return {"type": kind, "method": method, "path": path, "root_path": root, "headers": [], "query_string": b""}


@pytest.mark.parametrize(
    ("path", "group", "value"),
    [
        (TRIGGER, "dag_id", "frozen"),
        (TRIGGER + "/", "dag_id", "frozen"),
        # Starlette's patterns end with $ too, and a final line feed gets past that.
        (TRIGGER + "\n", "dag_id", "frozen"),
        ("/api/v2/dags/a b.c/dagRuns", "dag_id", "a b.c"),
        ("/api/v2/backfills", "backfills", "backfills"),
        ("/api/v2/assets/7/materialize", "asset_id", "7"),
        ("/execution/dag-runs/frozen/manual__1", "target_dag_id", "frozen"),
    ],
)
@pytest.mark.parametrize("root", ["", "/airflow", "/a/b", "/ap"])
def test_a_route_is_known_below_any_root_and_without_it(path: str, group: str, value: str, root: str) -> None:
    for found in (paused.match(scope(root + path, root=root)), paused.match(scope(path, root=root))):
        assert found is not None
        assert {name: text for name, text in found.groupdict().items() if text} == {group: value}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v2/dags/frozen",
        "/api/v2/dags/frozen/dagRuns/list",
        "/api/v2/dags/a/b/dagRuns",
        "/api/v2/dags//dagRuns",
        "/api/v2/backfills/dry_run",
        "/api/v2/assets/events",
        "/other/api/v2/dags/frozen/dagRuns",
        "/jobs/api/v2/dags/frozen/dagRuns",
        "/execution/dag-runs/frozen/manual__1/clear",
    ],
)
def test_other_routes_are_none_of_its_business(path: str) -> None:
    assert paused.match(scope(path)) is None


def test_airflow_creates_runs_in_no_other_routes() -> None:
    """Fails when a new version of Airflow has a route that nobody has looked at."""
    root = Path(airflow.api_fastapi.__file__).parent
    creates = re.compile(r"\b(create_dagrun|trigger_dag|_create_backfill|get_or_create_dagrun|DagRun)\(")
    found = {
        f"{path.relative_to(root)}: {name}"
        for path in root.rglob("routes/**/*.py")
        for name in creates.findall(path.read_text())
    }
    assert found == {
        "core_api/routes/public/assets.py: create_dagrun",
        "core_api/routes/public/backfills.py: _create_backfill",
        "core_api/routes/public/dag_run.py: create_dagrun",
        "execution_api/routes/dag_runs.py: trigger_dag",
    }


class Airflow:
    """What is behind the guard: keeps what it got."""

    def __init__(self) -> None:
        self.bodies: list[list[dict[str, Any]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        self.bodies.append(messages)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def call(app: Any, scope: dict[str, Any], *chunks: dict[str, Any]) -> tuple[int, Any]:
    incoming = list(chunks) or [{"type": "http.request", "body": b""}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body)["detail"] if body else None


class World:
    """Who asks, what is paused, and how many checks it takes until it is not."""

    user: Any = "somebody"
    may: set[str] = {"frozen", "warm"}
    paused: set[str] = {"frozen"}
    checks = 0
    until = 10**6
    slept = 0.0


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()

    async def user(request: Any) -> Any:
        return world.user

    def is_paused(dag_id: str) -> bool:
        world.checks += 1
        return dag_id in world.paused and world.checks <= world.until

    async def sleep(seconds: float) -> None:
        world.slept += seconds

    monkeypatch.setattr(paused, "_user", user)
    monkeypatch.setattr(paused, "_may_trigger", lambda dag_id, user: dag_id in world.may)
    monkeypatch.setattr(paused, "_is_paused", is_paused)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    return world


async def test_a_paused_job_is_refused_after_a_second_of_grace(world: World) -> None:
    behind = Airflow()
    status, detail = await call(paused.PausedJobs(behind), scope(TRIGGER))
    assert status == 409
    assert "'frozen' is paused" in detail
    assert world.slept == pytest.approx(1.0)
    assert behind.bodies == []


async def test_who_unpauses_within_the_second_gets_the_run(world: World) -> None:
    world.until = 3
    assert await call(paused.PausedJobs(Airflow()), scope(TRIGGER)) == (200, None)
    assert world.slept == pytest.approx(0.3)


@pytest.mark.parametrize("change", [{"user": None}, {"may": {"warm"}}])
async def test_whom_airflow_would_turn_away_is_passed_on_before_anything_is_looked_up(
    world: World, change: dict[str, Any]
) -> None:
    vars(world).update(change)
    assert await call(paused.PausedJobs(Airflow()), scope(TRIGGER)) == (200, None)
    assert world.checks == 0


async def test_an_active_job_and_other_dags_do_not_wait(world: World) -> None:
    trigger = scope("/api/v2/dags/warm/dagRuns")
    assert await call(paused.PausedJobs(Airflow()), trigger) == (200, None)
    assert (world.checks, world.slept) == (1, 0)


@pytest.mark.parametrize(
    "other", [scope(TRIGGER, "GET"), scope(TRIGGER, kind="websocket"), scope("/api/v2/dags/frozen", "PATCH")]
)
async def test_other_requests_pass(world: World, other: dict[str, Any]) -> None:
    assert await call(paused.PausedJobs(Airflow()), other) == (200, None)
    assert world.checks == 0


def backfill(dag_id: Any, size: int = 0) -> list[dict[str, Any]]:
    """A body in chunks of uneven length, one of them empty."""
    body = json.dumps({"dag_run_conf": {"x": "é" * size}, "dag_id": dag_id}, ensure_ascii=False).encode()
    parts = [body[:7], b"", body[7:30], body[30:]]
    return [
        {"type": "http.request", "body": part, "more_body": index < len(parts) - 1} for index, part in enumerate(parts)
    ]


async def test_a_backfill_of_a_paused_job_is_refused(world: World) -> None:
    status, detail = await call(paused.PausedJobs(Airflow()), scope("/api/v2/backfills"), *backfill("frozen", 1000))
    assert status == 409
    assert "'frozen' is paused" in detail


NO_BACKFILLS = [b"", b"{", b"\xff\xfe\xff", b"[1]", b'{"dag_id": 1}', b"[" * 200_000]


@pytest.mark.parametrize(
    "chunks",
    [
        backfill("warm", 100_000),
        *([{"type": "http.request", "body": body, "more_body": False}] for body in NO_BACKFILLS),
    ],
)
async def test_the_body_of_any_other_backfill_gets_through_untouched(
    world: World, chunks: list[dict[str, Any]]
) -> None:
    behind = Airflow()
    assert await call(paused.PausedJobs(behind), scope("/api/v2/backfills"), *chunks) == (200, None)
    assert behind.bodies == [chunks]


async def test_a_client_that_hangs_up_within_a_body_is_airflows_to_deal_with(world: World) -> None:
    behind = Airflow()
    chunks = [{"type": "http.request", "body": b'{"dag', "more_body": True}, {"type": "http.disconnect"}]
    await call(paused.PausedJobs(behind), scope("/api/v2/backfills"), *chunks)
    assert behind.bodies == [chunks]


async def test_a_body_is_read_up_to_a_bound_and_not_at_all_for_strangers(world: World) -> None:
    chunk = {"type": "http.request", "body": b" " * 1_000_000, "more_body": True}
    status, detail = await call(paused.PausedJobs(Airflow()), scope("/api/v2/backfills"), *[chunk] * 5)
    assert status == 413
    assert str(paused.MAX_BODY) in detail

    world.user = None
    behind = Airflow()
    last = {**chunk, "more_body": False}
    assert await call(paused.PausedJobs(behind), scope("/api/v2/backfills"), *[chunk] * 5, last) == (200, None)
    assert len(behind.bodies[0]) == 6


@pytest.fixture
def session() -> Iterator[Session]:
    engine = create_engine("sqlite://")
    names = ["dag", "dag_tag", "dag_bundle", "dag_bundle_team", "team", "asset", "task_outlet_asset_reference"]
    Base.metadata.create_all(engine, tables=[Base.metadata.tables[name] for name in names])
    with Session(engine) as session:
        yield session


def test_a_paused_job_is_a_paused_dag_with_the_tag_of_jobs(session: Session) -> None:
    for dag_id, is_paused, tags in [
        ("frozen", True, ["team-a", "job"]),
        ("warm", False, ["job"]),
        ("other", True, ["jobs", "JOB"]),
        ("bare", True, []),
    ]:
        session.add(DagModel(dag_id=dag_id, bundle_name="b", is_paused=is_paused))
        session.add_all(DagTag(dag_id=dag_id, name=tag) for tag in tags)
    session.flush()
    asked = ["frozen", "warm", "other", "bare", "missing", "Frozen", "frozen\n"]
    assert [dag_id for dag_id in asked if pausing.is_paused_job(dag_id, session)] == ["frozen"]
    assert pausing.team_of("frozen", session) is None


def test_the_tag_is_the_one_that_jobs_get() -> None:
    from airflow_jobs_plugin.factory import TAG

    assert pausing.TAG == TAG


def test_an_asset_is_materialized_by_the_one_dag_that_produces_it(session: Session) -> None:
    for asset_id, producers in enumerate([["a"], ["a", "b"], []], 1):
        session.add(AssetModel(id=asset_id, name=f"asset-{asset_id}", uri=f"s3://asset/{asset_id}", group="asset"))
        for dag_id in producers:
            for task_id in ("one", "two"):
                session.add(TaskOutletAssetReference(asset_id=asset_id, dag_id=dag_id, task_id=task_id))
    session.flush()
    assert [pausing.producer_of(asset_id, session) for asset_id in (1, 2, 3, 4)] == ["a", None, None, None]
