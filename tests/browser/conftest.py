"""A browser and a shop for each file of tests: both are gone before another begins."""

from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

from .chromium import launch
from .looking import DEADLINE_SECONDS, look
from .running import UVICORN_OPTIONS, Running
from .traffic import Traffic

FOLDER = Path(__file__).parent

expect.set_options(timeout=DEADLINE_SECONDS * 1000)


class Shop:
    """A server of the shop, the traffic that it has had, and where its page is."""

    def __init__(self, running, folder, path):
        self.running = running
        self.url = f"http://localhost:{running.port}{path}"
        self.traffic = Traffic(running.port)
        self._released = folder / "released"

    def release(self):
        """Let the held requests end."""
        self._released.touch()


@pytest.fixture(scope="module")
def open_shop(tmp_path_factory):
    """Starts servers, and ends them after the last test of the file."""
    started = []

    def start(app="shop.app:kit", *, workers=2, path="/_errorkit/", options=""):
        folder = tmp_path_factory.mktemp("shop")
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("SHOP_RECORD", str(folder / "record"))
            environment.setenv("SHOP_RELEASED", str(folder / "released"))
            line = f"uvicorn --no-access-log {UVICORN_OPTIONS} --app-dir {FOLDER}"
            several = f"--workers {workers}" if workers > 1 else ""
            started.append(Running(line, app, folder, options=f"{several} {options}"))
        return Shop(started[-1].ready(), folder, path)

    yield start
    for running in started:
        running.kill()


@pytest.fixture(scope="module")
def shop(open_shop):
    """The shop that the tests of a file share: two workers, which keep a record."""
    return open_shop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    async with async_playwright() as playwright:
        launched = await launch(playwright)
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="module")
async def new_look(browser):
    """Makes pages; after the test nothing may have happened in any that must not."""
    looks = []

    async def make(url, **options):
        looks.append(await look(browser, url, **options))
        return looks[-1]

    yield make
    for each in looks:
        await each.check()
        await each.context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page_of_shop(shop, new_look):
    """The shop's page, signed in and live."""
    return await (await new_look(shop.url)).open()
