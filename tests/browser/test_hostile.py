"""Whatever a client writes is shown as text, and nothing that is not the page's own can run."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from .looking import becomes
from .traffic import HELD, HOSTILE_AGENT, IMAGE, ORDER, REVIEW, SCRIPT, Call

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELD_NAMES = (
    "%3Cscript%3Ealert('held')%3C",
    "%22%3E%3Cimg%20src=x%20onerror=alert('held')%3E%E2%80%AEtxt.exe",
    "%3Cb%3Ewide" * 300,
)
LONG = Call("/held" + "/%E2%80%AE<b>" * 300 + "{}", "(unmatched)", "client_error", "not_found")
MARKS = re.compile("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@pytest.fixture(scope="module")
def sent(shop):
    """Requests with hostile paths and agents, one of which fails with a hostile message."""
    for name in range(3):
        for call in (REVIEW, SCRIPT, IMAGE, LONG, ORDER):
            shop.traffic.send(call, name, User_Agent=HOSTILE_AGENT, Referer=HOSTILE_AGENT)
    return shop.traffic


async def test_messages_are_text(sent, page_of_shop):
    look = page_of_shop
    await look.section("errors")
    await becomes(lambda: look.column("Groups of errors"), {await message(look): "3"})
    shown = await message(look)
    assert "<script>alert('message')</script><img src=x onerror=alert('image')>" in shown
    assert r"\u{202e}gpj.exe\u{2066} \u{1b}[31mred\u{0}\u{7} &lt;b&gt; long long" in shown


async def message(look):
    await expect(look.page.locator("#errors tbody tr")).to_have_count(1)
    return (await look.rows("Groups of errors"))[0][0]


async def test_agents_and_tracebacks_are_text(sent, page_of_shop):
    look, page = page_of_shop, page_of_shop.page
    section = await look.section("errors")
    await section.get_by_role("button", name="ValueError").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("GET /reviews/")
    await dialog.evaluate("it => it.querySelectorAll('details').forEach(each => each.open = true)")
    text = await dialog.inner_text()
    assert text.count("\"><script>alert('agent')</script><img src=x onerror=alert('agent')>") == 2
    assert r"\u{85}" in text
    assert "raise ValueError(HOSTILE)" in text
    assert not MARKS.search(text)
    await look.check()


async def test_what_is_in_flight_is_text(shop, page_of_shop):
    """The paths themselves, of requests that go on; one is longer than what is kept of it."""
    look = page_of_shop
    threads = [shop.traffic.begin(HELD, name) for name in HELD_NAMES]
    await look.section("flight")
    await becomes(lambda: in_flight(look), len(HELD_NAMES))
    text = await look.page.inner_text("#flight")
    assert "GET /hold/<script>alert('held')<" in text
    assert "GET /hold/\"><img src=x onerror=alert('held')>?txt.exe" in text
    assert "GET /hold/<b>wide<b>wide" in text
    assert not MARKS.search(text)
    await look.check()
    shop.release()
    for thread in threads:
        await asyncio.to_thread(thread.join)


async def in_flight(look):
    return len(await look.rows("Requests in flight"))


async def test_all_of_the_page_is_text(sent, page_of_shop):
    """Each section once, with what there is in it."""
    look = page_of_shop
    for name in ("overview", "alerts", "errors", "routes", "breakers", "flight", "workers"):
        section = await look.section(name)
        await expect(section).not_to_contain_text("Not loaded yet.")
    assert not MARKS.search(await look.figures())


INJECTED = {
    "script": "const it = document.createElement('script'); it.textContent = 'window.ran = true';"
    "document.body.append(it)",
    "handler": "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"ran = true\">')",
    "eval": "try { window.setTimeout('window.ran = true', 0) } catch {}",
    "style": "document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">x</p>')",
    "request": "fetch('http://127.0.0.1:9/').catch(() => {})",
    "frame": "const it = document.createElement('iframe'); it.src = 'http://127.0.0.1:9/';"
    "document.body.append(it)",
}


@pytest.mark.parametrize("name", INJECTED)
async def test_what_got_in_all_the_same_is_refused(shop, new_look, name):
    """By the policy of the page: so the other tests would notice what they look for."""
    look = await (await new_look(shop.url)).open()
    await look.page.evaluate(f"() => {{ {INJECTED[name]} }}")
    await becomes(lambda: violations(look), True)
    assert await look.page.evaluate("'ran' in window") is False
    with pytest.raises(AssertionError):
        await look.check()
    await look.page.reload()
    await look.live()
    look.wrong.clear()


async def violations(look):
    return any(each.startswith("error violation of") for each in look.wrong)
