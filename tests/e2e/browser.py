"""A headless Chromium of the system's, driven by Playwright. Where there is none, its tests are skipped; not in CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Milliseconds that a test waits for what the page is to show.
PATIENCE = 20_000


def executable() -> str | None:
    """The path of a Chromium, as ``AIRFLOW_JOBS_TEST_CHROMIUM`` says or as it is called where it is installed."""
    return os.environ.get("AIRFLOW_JOBS_TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A Chromium that runs."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Root, as in CI, has no sandbox. Nothing but the tests' own pages is opened.
        browser = playwright.chromium.launch(
            executable_path=executable(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


def must_be_there() -> None:
    """Skip a test for which there is no Chromium; in CI that is a failure."""
    if executable() is not None:
        return
    why = "needs a Chromium: on Debian or Ubuntu apt-get install chromium, or set AIRFLOW_JOBS_TEST_CHROMIUM"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@contextmanager
def opened(browser: Browser, url: str, token: str, *, theme: str = "light", **options: Any) -> Iterator[Page]:
    """A page of a new visitor with that token, whose browser is in Berlin. It is to have no errors of its own."""
    settings = {"viewport": {"width": 1280, "height": 800}, "timezone_id": "Europe/Berlin", "color_scheme": theme}
    context = browser.new_context(base_url=url, **(settings | options))
    context.set_default_timeout(PATIENCE)
    context.add_cookies([{"name": "_token", "value": token, "url": url}])
    page = context.new_page()
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    # What the policy of a page forbids is told there, and nothing of ours may be forbidden.
    page.on("console", lambda said: broken.append(said.text) if "Content Security Policy" in said.text else None)
    try:
        yield page
        assert not broken, broken
    finally:
        context.close()


def violations(page: Page) -> list[str]:
    """What axe-core finds serious or critical in the page as it is."""
    import axe_playwright_python

    script = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(script)
    found = page.evaluate("() => axe.run({resultTypes: ['violations']})")
    return [
        f"{fault['id']} ({fault['impact']}): {node['html'][:200]}: {node['failureSummary'][:300]}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
