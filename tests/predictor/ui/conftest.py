"""The page's server over a real predictor, and a real browser in front of it."""

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

pytest.importorskip("gradio", reason="gradio is not installed: the extra 'ui'")
async_api = pytest.importorskip("playwright.async_api", reason="playwright is not installed")

import uvicorn  # noqa: E402

from predictor.ui.app import create_app  # noqa: E402
from predictor.ui.examples import EXAMPLES, write  # noqa: E402
from predictor.ui.settings import Settings  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[3]
CHROMIUM = shutil.which("chromium")

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--mute-audio"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)


GRADIO = re.compile(
    # Of its upload, and of its stream of events when the page is left.
    r"^Method not implemented\.$|AbortError: signal is aborted|BodyStreamBuffer was aborted|errored out"
)
"""What gradio itself says on the console when all is well."""


@pytest.fixture(scope="session")
def page_url(demo_served: Any, new_port: Callable[[], int]) -> Iterator[str]:
    """The page as its own process, as ``make ui`` starts it."""
    port = new_port()
    environment = {
        "SENSEVOICE_UI_SERVICE_URL": demo_served.http,
        "SENSEVOICE_UI_HTTP_PORT": str(port),
    }
    environment |= {"SENSEVOICE_UI_HOST": "127.0.0.1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "predictor.ui"]
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment) as process:
        url = f"http://127.0.0.1:{port}/"
        try:
            until_served(url, lambda: process.poll() is None)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def until_served(url: str, alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert alive(), "the page's server ended"
        assert time.monotonic() < deadline, "the page's server does not answer"
        try:
            httpx.get(url, trust_env=False)
        except httpx.TransportError:
            threading.Event().wait(0.05)
        else:
            return


@contextmanager
def run_page(**settings: Any) -> Iterator[str]:
    """The page's server in a thread, with other settings."""
    app = create_app(Settings(host="127.0.0.1", **settings))
    port = settings["http_port"]
    # Open tabs hold connections for events that never end.
    config = uvicorn.Config(app, "127.0.0.1", port, log_level="error", timeout_graceful_shutdown=0)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until_served(f"http://127.0.0.1:{port}/", thread.is_alive)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="session")
def page_of() -> Any:
    """The context manager that serves the page with settings of one's own."""
    return run_page


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser(spoken: Path) -> AsyncIterator[Any]:
    """A headless Chromium with nothing from any other run; it hears :func:`spoken`."""
    if CHROMIUM is None:
        pytest.skip("no chromium on the path")
    heard = f"--use-file-for-fake-audio-capture={spoken}"
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=[*FLAGS, heard]
        )
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the browser's microphone hears, again and again."""
    return write(EXAMPLES[0], tmp_path_factory.mktemp("spoken"))


@asynccontextmanager
async def opener(browser: Any) -> AsyncIterator[Any]:
    """The function that opens a page in a fresh profile. At the end nothing may have complained, and
    nobody else may have been asked."""
    contexts: list[Any] = []
    complaints: list[str] = []

    async def open_one(
        url: str, locale: str = "en-US", width: int = 1280, height: int = 900
    ) -> Any:
        context = await browser.new_context(
            locale=locale,
            viewport={"width": width, "height": height},
            permissions=["microphone", "clipboard-read", "clipboard-write"],
        )
        contexts.append(context)
        context.set_default_timeout(20_000)
        tab = await context.new_page()
        own = (url, url.replace("http", "ws", 1), "data:", "blob:")

        def on_console(said: Any) -> None:
            if said.type in ("error", "warning") and not GRADIO.search(said.text):
                complaints.append(f"{said.type}: {said.text}")

        def on_request(asked: Any) -> None:
            if not asked.url.startswith(own):
                complaints.append(f"elsewhere: {asked.url}")

        tab.on("console", on_console)
        tab.on("request", on_request)
        tab.on("pageerror", lambda error: complaints.append(f"page: {error}"))
        await tab.goto(url)
        await tab.wait_for_selector(".sv-notice")
        return tab

    yield open_one
    for context in contexts:
        await context.close()
    assert complaints == []


@pytest_asyncio.fixture(loop_scope="package")
async def open_page(browser: Any) -> AsyncIterator[Any]:
    """See :func:`opener`."""
    async with opener(browser) as open_one:
        yield open_one


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def conversation(browser: Any, page_url: str) -> AsyncIterator[Any]:
    """A tab that shows the example with everything in it, for tests that leave it as it is."""
    async with opener(browser) as open_one:
        tab = await open_one(page_url)
        await tab.get_by_role("button", name="Everything in 40 s").click()
        await tab.wait_for_selector(".sv-timeline")
        yield tab
