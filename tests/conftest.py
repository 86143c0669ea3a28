"""Fixtures for whatever looks at the built book in a real browser.

`site` is the built book on a local server, `open_page` opens pages in Chromium with any settings, and `page` is one
with the defaults. A page keeps what it logged in `page.errors` and what it asked for in `page.requests`.
"""

import os
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from serve import make_server

ROOT = Path(__file__).parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]


@dataclass(frozen=True)
class Site:
    url: str      # where it is served, without a slash at the end
    html: Path    # where its files lie


@pytest.fixture(scope="session")
def site():
    subprocess.run(["make", "book"], cwd=ROOT, check=True)
    html = ROOT / "_build" / "html"
    with make_server(html) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Site(f"http://127.0.0.1:{server.server_port}", html)
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    executable = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not executable:
        message = "no Chromium found: install it, or name it in the variable CHROMIUM"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


def until(page, expression, seconds=10):
    """Waits for a condition. Playwright's own `wait_for_function` needs `eval`, which the book's pages forbid."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"{expression} has not come true"
        page.wait_for_timeout(20)


@pytest.fixture
def open_page(browser):
    """Call it with Playwright's context options, such as `color_scheme="dark"`, for a new page that keeps a record."""
    contexts = []

    def open_page(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.errors, page.requests = [], []
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_page):
    return open_page()
