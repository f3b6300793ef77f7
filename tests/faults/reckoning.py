"""Holds the called API's ledger, the run over REST, and the receiver's ledger against each other."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Any

from airflow_jobs_plugin.demo.server import Ledger, Received

ENDED = frozenset({"SUCCEEDED", "FAILED"})


@dataclass(frozen=True)
class Figures:
    """What a reckoning counted. ``lost`` and ``doubled`` are to be 0.

    :ivar items: of the runs
    :ivar attempts: that the runs say they made
    :ivar calls: in the API's ledger
    :ivar repeated: calls under an attempt's number that had been used, each for a death of a worker
    :ivar lost: items without an end, items that succeeded without a call, and items missing from the delivery
    :ivar doubled: calls beyond attempts and deaths, and runs delivered under more than one id
    :ivar deliveries: messages, by their ids
    :ivar redelivered: requests of the receiver's beyond one a message, all with the same body
    """

    runs: int = 0
    items: int = 0
    attempts: int = 0
    calls: int = 0
    repeated: int = 0
    lost: int = 0
    doubled: int = 0
    deliveries: int = 0
    redelivered: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def written(self) -> dict[str, int]:
        """As a JSON object."""
        return asdict(self)


class Fault(AssertionError):
    """Something was lost or doubled, or two ledgers do not agree."""


@dataclass(frozen=True)
class Ledgers:
    """Who was called, and who was told."""

    api: Ledger
    receiver: Ledger

    def calls(self, run_id: str, job_id: str) -> dict[int, list[Received]]:
        """The calls of a run by item."""
        found: dict[int, list[Received]] = {}
        for call in self.api.all():
            if (call.headers.get("x-job-id"), call.headers.get("x-job-run-id")) == (job_id, run_id):
                found.setdefault(int(call.headers["x-item-index"]), []).append(call)
        return found

    def deliveries(self, run_id: str, job_id: str) -> list[Received]:
        """What the receiver got of a run."""
        bodies = [(r, r.body) for r in self.receiver.all() if isinstance(r.body, dict)]
        return [r for r, body in bodies if (body["projectJob"]["id"], body["projectJobRun"]["id"]) == (job_id, run_id)]


def reckon(
    ledgers: Ledgers, run: dict[str, Any], items: list[dict[str, Any]], *, expected: int, deaths: int = 0
) -> Figures:
    """Account for one run that has ended.

    :param run: as REST shows it
    :param items: all of its items, as REST shows them
    :param expected: how many items there are to be
    :param deaths: how often a worker that drove a batch of several items was killed: each may repeat each call that
        was in flight once. With one item a task instance a repetition is an attempt of its own, so nothing is allowed
    :raises Fault: with everything that does not agree
    """
    job_id, run_id = run["job_id"], run["id"]
    calls = ledgers.calls(run_id, job_id)
    faults = []
    lost, doubled = abs(expected - len(items)), 0
    if [item["index"] for item in items] != list(range(expected)):
        faults.append(f"{len(items)} items, not {expected}, or not in order")
    for item in items:
        made = calls.pop(item["index"], [])
        wrong, missing, beyond = _item(item, made, deaths)
        faults += wrong
        lost += missing
        doubled += beyond
    if calls:
        doubled += sum(map(len, calls.values()))
        faults.append(f"calls of items that the run does not have: {sorted(calls)}")
    sent = ledgers.deliveries(run_id, job_id)
    messages = {request.headers["webhook-id"] for request in sent}
    wrong, missing = _delivery(run, items, sent)
    faults += wrong
    lost += missing
    doubled += max(len(messages) - 1, 0)
    figures = Figures(
        runs=1,
        items=len(items),
        attempts=sum(item["attempts"] for item in items),
        calls=sum(map(len, ledgers.calls(run_id, job_id).values())),
        repeated=sum(_repeated(made) for made in ledgers.calls(run_id, job_id).values()),
        lost=lost,
        doubled=doubled,
        deliveries=len(messages),
        redelivered=len(sent) - len(messages),
    )
    if faults or lost or doubled:
        raise Fault(f"{job_id} {run_id} ({run['status']}) {figures}:\n" + "\n".join(faults))
    return figures


def _repeated(made: list[Received]) -> int:
    return len(made) - len({call.headers["x-attempt"] for call in made})


def _item(item: dict[str, Any], made: list[Received], deaths: int) -> tuple[list[str], int, int]:
    """Faults, and how much was lost and doubled, of one item."""
    faults = []
    name = f"item {item['index']} ({item['status']}, {item['attempts']} attempts)"
    lost = beyond = 0
    if item["status"] not in ENDED:
        faults.append(f"{name} has not ended")
        lost = 1
    if item["status"] == "SUCCEEDED" and not made:
        faults.append(f"{name} succeeded without a call")
        lost = 1
    if len({call.headers["idempotency-key"] for call in made} | {item["id"]}) > 1:
        faults.append(f"{name} was called under more than one Idempotency-Key")
    used = Counter(int(call.headers["x-attempt"]) for call in made)
    if used and max(used) > item["attempts"]:
        faults.append(f"{name} was called as attempt {max(used)}")
        beyond += 1
    if _repeated(made) > deaths:
        faults.append(f"{name} was called as attempts {sorted(used.elements())}, with {deaths} deaths")
        beyond += _repeated(made) - deaths
    return faults, lost, beyond


def _delivery(run: dict[str, Any], items: list[dict[str, Any]], sent: list[Received]) -> tuple[list[str], int]:
    """Faults of what was delivered, and how many items are missing from it."""
    if run["status"] not in ("SUCCESS", "COMPLETED", "FAILURE"):
        return [f"the run is {run['status']}"], 0
    if not sent:
        return ["nothing was delivered"], len(items)
    faults = []
    if len({request.raw for request in sent}) > 1:
        faults.append("repeats of the delivery differ")
    if len({request.headers["webhook-id"] for request in sent}) > 1:
        faults.append("delivered under more than one id")
    results = sent[-1].body["results"]
    told = [(r["apiInfo"]["runId"], r["apiInfo"]["result"]["status"]) for r in results]
    known = [(item["id"], "completed" if item["status"] == "SUCCEEDED" else "failed") for item in items]
    if told != known:
        faults.append(f"delivered {told}, and the run has {known}")
    return faults, len({item for item, _ in known} - {item for item, _ in told})
