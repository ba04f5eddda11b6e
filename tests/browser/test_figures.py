"""What the page shows is what was sent, while it is looked at and without it being loaded anew."""

import asyncio

import psutil
import pytest
from playwright.async_api import expect

from .looking import becomes
from .traffic import HELD, INVOICE, ORDER, REVIEW, UNPRICED

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROUPS = {"ConnectionError": INVOICE, "KeyError": UNPRICED, "ValueError": REVIEW}


def with_spaces(counted):
    """As the page writes names and numbers."""
    return {name.replace("_", " "): f"{number:,}" for name, number in counted.items()}


async def test_every_figure_is_what_was_sent(shop, page_of_shop):
    """Totals, outcomes, types, groups and routes; some requests more, and they follow."""
    for rounds in (3, 1):
        await asyncio.to_thread(shop.traffic.mixed, rounds)
        await assert_shown(page_of_shop, shop.traffic)
    assert await page_of_shop.page.inner_text("#count-errors") == str(len(GROUPS))


async def assert_shown(look, traffic):
    outcomes, errors = traffic.outcomes(), traffic.errors()
    tiles = {
        "requests": sum(traffic.sent.values()),
        "failed": outcomes["server_error"],
        "client": outcomes["client_error"],
        "errors": sum(errors.values()),
    }
    await becomes(lambda: told_by(look, tiles), {name: f"{n:,}" for name, n in tiles.items()})
    await becomes(lambda: look.column("Requests by outcome, 5 minutes"), with_spaces(outcomes))
    await becomes(lambda: look.column("Errors by type, 5 minutes"), with_spaces(errors))
    await look.section("errors")
    times = {name: f"{traffic.sent[call]:,}" for name, call in GROUPS.items()}
    await becomes(lambda: times_of_groups(look), times)
    await look.section("routes")
    routes = traffic.routes()
    failed = {label: failures(traffic, label) for label in routes}
    rows = {label: (f"{number:,}", f"{failed[label]:,}") for label, number in routes.items()}
    await becomes(lambda: routes_told(look), rows)


async def told_by(look, tiles):
    return {name: await look.tile(name) for name in tiles}


async def routes_told(look):
    return {row[0]: (row[1], row[3]) for row in await look.rows("Routes")}


async def times_of_groups(look):
    return {row[0].split()[0]: row[1] for row in await look.rows("Groups of errors")}


def failures(traffic, label):
    sent = traffic.sent.items()
    return sum(n for call, n in sent if call.route == label and call.outcome == "server_error")


async def test_the_workers_are_those_that_run(shop, page_of_shop):
    table = await page_of_shop.section("workers")
    children = psutil.Process(shop.running.process.pid).children(recursive=True)
    running = {str(each.pid) for each in children if "spawn_main" in " ".join(each.cmdline())}
    assert len(running) == 2
    await becomes(lambda: pids(page_of_shop), running)
    await expect(table).not_to_contain_text("unknown")
    assert await page_of_shop.page.inner_text("#count-workers") == "2"


async def pids(look):
    return set(await look.column("Workers"))


async def test_what_goes_on_is_in_flight_until_it_ends(shop, page_of_shop):
    look = page_of_shop
    threads = [shop.traffic.begin(HELD, name) for name in ("first", "second", "third")]
    await becomes(lambda: look.tile("flight"), "3")
    await look.section("flight")
    requests = {f"GET /hold/{name}" for name in ("first", "second", "third")}
    await becomes(lambda: in_flight(look), requests)
    shop.release()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    await becomes(lambda: look.tile("flight"), "0")
    await becomes(lambda: in_flight(look), set())
    await becomes(lambda: look.tile("requests"), f"{sum(shop.traffic.sent.values()):,}")


async def in_flight(look):
    return set(await look.column("Requests in flight"))


async def test_it_stays_live_when_a_stream_ends(shop, page_of_shop):
    """After 15 seconds the browser comes again: nothing of that is seen, and figures go on."""
    look, page = page_of_shop, page_of_shop.page
    await page.evaluate("""() => {
      window.states = [];
      new MutationObserver(() => states.push(document.querySelector("#connection").innerText))
        .observe(document.querySelector("#connection"), {attributes: true, childList: true});
    }""")
    await becomes(lambda: streams(look), True)
    shop.traffic.send(ORDER, 1)
    await becomes(lambda: look.tile("requests"), f"{sum(shop.traffic.sent.values()):,}")
    assert await page.evaluate("states") == []
    assert sum("/assets/dashboard.js" in url for url in look.asked) == 1


async def streams(look):
    """Whether a second one was begun."""
    return sum(url.endswith("/events") for url in look.asked) >= 2


async def test_what_is_not_on_the_screen_is_asked_for_its_count_now_and_then(shop, new_look):
    """So that a worker which dies is told in the navigation; routes, which may be many, are not."""
    look = await new_look(shop.url)
    await look.page.clock.install()
    await look.open()
    await becomes(lambda: has_asked(look, "crashes", 1), True)
    routes = []
    for _ in range(3):
        before = asked(look, "crashes")
        await look.page.clock.fast_forward(41_000)
        await becomes(lambda: has_asked(look, "crashes", before + 1), True)  # noqa: B023
        routes.append(asked(look, "performance/stats?window_minutes=5"))
    assert routes[1] == routes[2]


async def has_asked(look, route, least):
    return asked(look, route) >= least


def asked(look, route):
    return sum(url.endswith(f"/_errorkit/{route}") for url in look.asked)


async def test_the_chosen_window_is_that_of_the_routes(shop, page_of_shop):
    look = page_of_shop
    section = await look.section("routes")
    await section.get_by_label("Within the last").select_option("60 minutes")
    routes = {label: f"{number:,}" for label, number in shop.traffic.routes().items()}
    await becomes(lambda: look.column("Routes"), routes)
    assert any(url.endswith("performance/stats?window_minutes=60") for url in look.asked)


async def test_a_group_opens_to_its_traceback_and_request(shop, page_of_shop):
    """With the source around each line of the application, the cause before its effect."""
    look, page = page_of_shop, page_of_shop.page
    section = await look.section("errors")
    await section.get_by_role("button", name="ConnectionError").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("ConnectionError: the bank does not answer")
    await expect(dialog).to_contain_text("GET /invoices/")
    text = await dialog.inner_text()
    assert text.index("KeyError: ") < text.index("While it was handled, this was raised:")
    here = await dialog.locator(".line-here").all_inner_texts()
    assert [line.split(maxsplit=2)[2].strip() for line in here if ">" in line][-2:] == [
        "return charge(order, 1250)",
        'raise ConnectionError(f"the bank does not answer for {cents} cents")',
    ]
    await expect(dialog.locator("summary", has_text="shop/orders.py").first).to_be_visible()
    assert "/tests/browser" not in await dialog.text_content()
    times = f"{shop.traffic.sent[INVOICE]} times"
    await expect(dialog.locator("dd", has_text="times")).to_have_text(times)
