"""The studio and a headless Chromium for tests and screenshots."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

# Software rendering: machines of tests have no graphics card.
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
SIZES = {
    "tiny": {"width": 1024, "height": 600},  # for speed where looks do not matter
    "small": {"width": 1280, "height": 800},
    "large": {"width": 1920, "height": 1080},
}
# Milliseconds that a test waits for the page, on a busy machine.
PATIENCE_MS = 60_000


def chromium():
    """Return the path of Chromium; without it, skip the test, or fail where CI=true."""
    path = os.environ.get("ANYMRI_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    missing = None if path else "Chromium is not installed; install it with: apt-get install chromium"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        missing = "Playwright is not installed; install it with: pip install playwright"
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    return path


@contextmanager
def running_browser() -> Iterator:
    """Yield a headless Chromium."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def running_studio(folder: Path, *arguments) -> Iterator[str]:
    """Run `anymri studio` and yield its address with the token.

    folder     working folder, which gets the log
    arguments  of the command
    """
    command = [sys.executable, "-m", "anymri", "studio", *map(str, arguments), "--no-browser"]
    paths = os.pathsep.join(each for each in sys.path if each)
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    with (folder / "studio.log").open("w") as log:
        studio = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
        try:
            line = next((line for line in studio.stdout if "http://" in line), None)
            if line is None:
                raise RuntimeError((folder / "studio.log").read_text())
            yield line[line.index("http://") :].split()[0]
        finally:
            studio.send_signal(signal.SIGINT)
            try:
                studio.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(studio.pid, signal.SIGKILL)
                studio.wait()
            studio.stdout.close()


class Studio:
    """Page of a studio in a browser, with a record of what it must not do.

    page      Playwright's page
    problems  errors of the console and of scripts, violations of the content security policy, requests to other hosts
    """

    def __init__(self, browser, url=None, size="tiny", scheme="light"):
        context = browser.new_context(viewport=SIZES[size], color_scheme=scheme, accept_downloads=True)
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.problems = []
        self.page.on("console", self._record)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", self._refuse)
        if url:
            self.enter(url)

    def enter(self, url):
        """Open the studio with the address that it printed."""
        host = urlsplit(url).netloc
        self.page.on("request", lambda request: self._check(urlsplit(request.url), host))
        self.page.goto(url)
        self.page.wait_for_selector(".welcome, .proposal, .workspace")

    def _record(self, message):
        if message.type == "error":
            self.problems.append(f"{message.text} {message.location.get('url')}")

    def _refuse(self, dialog):
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _check(self, address, host):
        if address.scheme not in ("data", "blob") and address.netloc != host:
            self.problems.append(f"request to {address.geturl()}")

    def close(self):
        """Close the browser's window."""
        self.page.context.close()

    def open(self, name):
        """Open a case of the list, with the proposed assignment, and wait for its first segmentation."""
        self.page.locator(".entry", has_text=name).click()
        self.page.wait_for_selector(".proposal, canvas")
        if self.page.locator(".proposal").count():
            self.page.locator(".proposal button.primary").click()
        self.page.wait_for_selector("table.volumes")

    def shows(self, text, pane=0):
        """Wait until a pane shows what is named, and its picture is drawn."""
        self.page.locator("figcaption").nth(pane).filter(has_text=text).wait_for()
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def has_all_subsets(self):
        """Wait until all cells of the grid of subsets have a value."""
        values = "[...document.querySelectorAll('.cell .value')]"
        self.page.wait_for_function(f"() => {values}.length && {values}.every((e) => /[0-9]/.test(e.textContent))")

    def picture(self, pane=0):
        """Return the pixels of a pane as a PNG."""
        return self.page.locator("canvas").nth(pane).screenshot()

    def volumes(self):
        """Return region -> volume as the page prints it."""
        cells = self.page.locator("td[data-region]")
        return {cell.get_attribute("data-region"): cell.inner_text() for cell in cells.all()}

    def tab(self, name):
        """Choose a tab of the controls."""
        self.page.get_by_role("tab", name=name).click()

    def drop(self, *files):
        """Drop files or folders of the disk onto the page, as a person does from a file manager."""
        session = self.page.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, "x": 500, "y": 300, "data": data})
