"""Takes the screenshots of the web UI that the README shows:  python -m tests.e2e.screenshots [NAME…]

Boots the Airflow of the end-to-end tests, and writes ``docs/screenshots/<name>-<theme>.png``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_jobs_plugin.demo.receiver import WebhookReceiver

from .browser import chromium, opened
from .conftest import Api, Gate, started
from .furnishing import Furnished, furnish, mixed, prices, slow

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
SIZE = {"width": 1280, "height": 860}
#: Those that show the page down to its end, however long it is.
WHOLE = ("job", "new-job", "edit", "jobs")


def shots(stage: Furnished) -> dict[str, tuple[str, Callable[[Any], None] | None]]:
    """Of each picture the address, and what is done before it is taken."""

    def write_wrongly(page: Any) -> None:
        page.fill("#id", "hourly prices")
        page.fill("#item-0-api", "list-products")
        page.fill("#item-0-parameters", '{"page": }')
        page.select_option("#kind", "interval")
        page.fill("#every", "1h")
        page.wait_for_selector("text=2 things to mend")
        page.wait_for_selector("text=Next run times")

    def write_text(page: Any) -> None:
        page.fill("#text", page.input_value("#text").replace("maxConcurrentRequests: 5", "maxConcurentRequests: 5"))
        page.wait_for_selector("[data-check=faults]")

    def in_flight(page: Any) -> None:
        page.wait_for_function("() => document.querySelector('#live dd time') && /items.s/.test(live.textContent)")
        page.wait_for_function("() => Number(document.querySelector('.c-succeeded dd').textContent) >= 3")

    one = "/jobs/ui/job/nightly-prices"
    return {
        "jobs": ("/jobs/ui/", None),
        "job": (one, None),
        "new-job": ("/jobs/ui/new", write_wrongly),
        "editor": ("/jobs/ui/new?mode=editor", write_text),
        "edit": (f"{one}/edit", None),
        "read-only": ("/jobs/ui/job/weekly-report/edit", None),
        "trigger": (f"{one}/trigger", None),
        "delete": (f"{one}/delete", None),
        "run": (stage.run("catalogue-check"), None),
        "live-run": (stage.run("slow-crawl"), in_flight),
        "items": (stage.run("sum-of-all") + "?q=13", None),
        "item": (stage.run("catalogue-check") + "/item/2", None),
        "append": (stage.run("slow-crawl") + "/append", None),
        "terminate": (stage.run("slow-crawl") + "/terminate", None),
        "redeliver": (stage.run("catalogue-check") + "/redeliver", None),
        "error": ("/jobs/ui/job/no-such-job", None),
        "no-job": ("/jobs/ui/dag/no-job", None),
        "in-airflow": ("/plugin/jobs", None),
        "in-dag": ("/dags/nightly-prices/plugin/job", None),
    }


def part(page: Any, name: str) -> dict[str, int]:
    """What of a page the picture shows: down to the end of its content, of long ones the beginning."""
    last = "document.querySelector('main > :last-child') ?? document.body"
    end = page.evaluate(f"() => Math.ceil(({last}).getBoundingClientRect().bottom + window.scrollY)")
    most = 10_000 if name in WHOLE else SIZE["height"]
    height = SIZE["height"] if name.startswith("in-") else min(end + 24, most)
    return {"x": 0, "y": 0, "width": SIZE["width"], "height": height}


def main(names: list[str]) -> None:
    """Take them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with Api() as api, Gate() as gate, WebhookReceiver() as receiver, tempfile.TemporaryDirectory() as home:
        with started(api, gate, Path(home) / "airflow") as airflow, airflow.jobs_api() as rest:
            stage = furnish(airflow, rest, receiver.url)
            for definition in (prices(receiver.url), mixed(receiver.url)):
                for _ in range(3):
                    airflow.wait_for_run(definition["id"], stage.trigger(definition["id"]))
            stage.trigger(stage.create(slow("slow-crawl", 1.5, 300, 3)))
            with chromium() as browser:
                for name, (path, act) in shots(stage).items():
                    if names and name not in names:
                        continue
                    for theme in ("light", "dark"):
                        framed = name.startswith("in-")
                        with opened(browser, airflow.base_url, airflow.token(), theme=theme, viewport=SIZE) as page:
                            page.add_init_script(f"localStorage.setItem('theme', '{theme}')")
                            page.goto(path)
                            if framed:
                                frame = page.frame_locator("iframe")
                                # The script has said the times in the reader's zone.
                                frame.locator("time[title]").first.wait_for(state="attached")
                            elif act is not None:
                                act(page)
                            page.screenshot(path=FOLDER / f"{name}-{theme}.png", full_page=True, clip=part(page, name))
                            print(f"{name}-{theme}.png", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
