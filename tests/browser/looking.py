"""Looking at the page: opened, read as people read it, and with all that must not happen noted."""

import asyncio
import time
from urllib.parse import urlsplit

from .shop.token import TOKEN

DEADLINE_SECONDS = 50

_TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`violation of ${event.effectiveDirective} by ${event.blockedURI}`));
"""
_MADE = (
    "script:not([src='assets/dashboard.js']), img, iframe, object, embed, b, font, "
    "a:not([href^='#']), [onerror], [onclick]"
)
_KEPT = """async () => JSON.stringify([
  {...localStorage}, {...sessionStorage}, document.cookie, await indexedDB.databases(),
  await caches.keys(), location.href, history.length, document.documentElement.outerHTML])"""


class Look:
    """One page in a context of its own; ``wrong`` is what has happened that must not."""

    def __init__(self, context, page, url):
        self.context, self.page, self.url = context, page, url
        self.wrong = []
        self.asked = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.wrong.append(f"error {error}"))
        page.on("dialog", self._on_dialog)
        page.on("request", self._on_request)

    async def open(self):
        """Sign in by a link, and wait for the first figures."""
        await self.page.goto(f"{self.url}#token={TOKEN}")
        await self.live()
        return self

    async def live(self):
        await self.page.wait_for_selector("#connection[data-state=live]")
        await self.page.wait_for_selector("#figures[data-seen]")

    async def section(self, name):
        """Bring a section into view: it asks for its figures then."""
        await self.page.evaluate(f"document.getElementById('{name}').scrollIntoView()")
        return self.page.locator(f"#{name}")

    async def rows(self, caption):
        """The cells of a table as they are read, a list a row."""
        table = self.page.get_by_role("table", name=caption, exact=True)
        return await table.evaluate(
            "table => [...table.tBodies[0].rows].map(row => [...row.cells].map(c => c.innerText))"
        )

    async def column(self, caption, at=1):
        """A table as a mapping of its first column to another."""
        return {row[0]: row[at] for row in await self.rows(caption)}

    async def tile(self, name):
        return await self.page.inner_text(f"[data-tile={name}] .tile-value")

    async def figures(self):
        """All that a visitor can see or be read."""
        return await self.page.inner_text("body")

    async def focused(self):
        """What has the focus, as it is called."""
        return await self.page.evaluate(
            "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText)"
        )

    async def check(self):
        """Fail for all that must not have happened."""
        assert self.wrong == []
        assert await self.page.locator(_MADE).count() == 0
        assert TOKEN not in await self.page.evaluate(_KEPT)

    def _on_console(self, message):
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type} {message.text} {message.location.get('url')}")

    async def _on_dialog(self, dialog):
        self.wrong.append(f"dialog {dialog.message}")
        await dialog.dismiss()

    def _on_request(self, request):
        self.asked.append(request.url)
        mine, its = urlsplit(self.url), urlsplit(request.url)
        if its.scheme != "data" and (mine.scheme, mine.netloc) != (its.scheme, its.netloc):
            self.wrong.append(f"request to {request.url}")


async def look(browser, url, **options):
    """A page that is not opened yet; the options are those of a context."""
    options = {"locale": "en-GB", "timezone_id": "UTC", **options}
    context = await browser.new_context(**options)
    context.set_default_timeout(DEADLINE_SECONDS * 1000)
    await context.add_init_script(_TELL_VIOLATIONS)
    return Look(context, await context.new_page(), url)


async def becomes(read, expected):
    """Read again and again until it is what is expected; fails with what it was last."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (told := await read()) != expected and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    assert told == expected
