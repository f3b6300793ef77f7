"""Whether what the demo's webhook received is what it should be.

Each check takes the definition, the body that the webhook got, the state of the run in Airflow, the calls by item
index as the catalogue counted them, and how often the webhook was called. It returns what is wrong; nothing if all is
well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_jobs_plugin.demo.catalogue import PAGE, PRODUCTS, product

FAILING_API = "discontinued-product"
FLAKY_API = "stock-level"


class Expectations:
    """Collects what is not as it should be."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def __call__(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.problems.append(f"{what} should be {wanted!r}, not {found!r}")

    def one_delivery(
        self, body: Mapping[str, Any], state: str, deliveries: int, status: str, items: int, failed: int
    ) -> None:
        """One delivery of the whole run."""
        run = body["projectJobRun"]
        self("the number of deliveries", deliveries, 1)
        self("the run's state in Airflow", state, "success")
        self("the run's status", run["status"], status)
        self("payloads", run["payloads"], items)
        self("failedRuns", run["failedRuns"], failed)
        self("successfulRuns", run["successfulRuns"], items - failed)
        self("the number of results", len(body["results"]), items)


def check_catalogue(
    job: Mapping[str, Any], body: Mapping[str, Any], state: str, attempts: Mapping[int, int], deliveries: int
) -> list[str]:
    """The list that the job file has, called item by item; some fail and are tolerated."""
    items = job["payload"]
    failing = [item for item in items if item["api"] == FAILING_API]
    expect = Expectations()
    expect.one_delivery(body, state, deliveries, "COMPLETED", len(items), len(failing))
    for index, (item, entry) in enumerate(zip(items, body["results"], strict=False)):
        info = entry["apiInfo"]
        name = f"item {index} ({item['api']})"
        expect(f"the API of {name}", info["name"], item["api"])
        expect(f"the parameters of {name}", info["parameters"], item["parameters"])
        wanted = "failed" if item["api"] == FAILING_API else "completed"
        expect(f"the status of {name}", info["result"]["status"], wanted)
        expect(f"the attempts of {name}", attempts.get(index), 3 if item["api"] == FLAKY_API else 1)
    return expect.problems


def check_crawl(
    job: Mapping[str, Any], body: Mapping[str, Any], state: str, attempts: Mapping[int, int], deliveries: int
) -> list[str]:
    """A list that grew from one item: every page and every product once, each called once."""
    categories = job["payload"][0]["parameters"]["categories"]
    wanted = sorted(n for n in range(1, PRODUCTS + 1) if product(n)["category"] in categories)
    pages = sum(-(-sum(product(n)["category"] == name for n in wanted) // PAGE) for name in categories)
    expect = Expectations()
    expect.one_delivery(body, state, deliveries, "SUCCESS", 1 + pages + len(wanted), 0)
    infos = [entry["apiInfo"] for entry in body["results"]]
    seen = sorted(info["parameters"]["id"] for info in infos if info["name"] == "product-details")
    expect("the products", seen, wanted)
    expect("the calls of each item", set(attempts.values()), {1})
    expect("the items that were called", len(attempts), len(infos))
    return expect.problems
