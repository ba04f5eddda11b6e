"""What is done on the page is done to the application, and what befalls the application is told."""

import asyncio

import pytest
from playwright.async_api import expect

from .looking import becomes
from .running import until
from .traffic import HELD, INVOICE, PAY

pytestmark = pytest.mark.asyncio(loop_scope="module")

IN_A_ROW = 30
CAPTION = "Circuit breakers"


def answers(shop, status):
    """Whether all that ask in a row are answered so, whichever worker they come to."""
    return answers_as(shop, PAY, status)


async def states(look):
    return [row[1] for row in await look.rows(CAPTION)]


async def act(look, label):
    """Press a button of the first worker's breaker, and then the one that means it."""
    button = look.page.get_by_role("button", name=f"{label}: payments").first
    await button.click()
    dialog = look.page.get_by_role("dialog", name=f"{label}?")
    await expect(dialog).to_contain_text("payments, with all workers that act together")
    await dialog.get_by_role("button", name=label).click()
    await expect(dialog).to_be_hidden()


async def test_a_breaker_is_opened_and_reset_by_hand(shop, page_of_shop):
    """All workers refuse then, and all serve again."""
    look = page_of_shop
    assert answers(shop, 200)
    await look.section("breakers")
    await becomes(lambda: states(look), ["closed", "closed"])
    await act(look, "Force open")
    await becomes(lambda: states(look), ["forced open", "forced open"])
    until(lambda: answers(shop, 503), "refusal by all workers")
    await becomes(lambda: look.page.inner_text("#count-breakers"), "1 refusing")
    history = look.page.get_by_role("table", name=CAPTION).locator(".changes").first
    await expect(history.locator("li").last).to_contain_text("forced open")
    await act(look, "Reset")
    await becomes(lambda: states(look), ["closed", "closed"])
    until(lambda: answers(shop, 200), "service by all workers")
    await becomes(lambda: look.page.inner_text("#count-breakers"), "")
    assert await history.locator("li").count() == 3


async def test_a_question_that_is_left_changes_nothing(shop, page_of_shop):
    """By Escape or by Close."""
    look, page = page_of_shop, page_of_shop.page
    await look.section("breakers")
    await becomes(lambda: states(look), ["closed", "closed"])
    posted = []
    page.on("request", lambda request: posted.append(request.method))
    for leave in (
        lambda: page.keyboard.press("Escape"),
        lambda: page.get_by_role("button", name="Close").click(),
    ):
        await page.get_by_role("button", name="Force open: payments").first.click()
        await expect(page.get_by_role("dialog", name="Force open?")).to_be_visible()
        await leave()
        await expect(page.get_by_role("dialog")).to_have_count(0)
    assert "POST" not in posted
    assert answers(shop, 200)


async def test_what_cannot_be_done_is_said_where_it_was_asked_for(page_of_shop):
    """The question stays, with the reason."""
    look, page = page_of_shop, page_of_shop.page
    await look.section("breakers")
    await page.get_by_role("button", name="Disable: payments").first.click()
    answer = {"status": 404, "json": {"detail": "There is no such <b>breaker</b>."}}
    await page.route("**/breakers", lambda route: route.fulfill(**answer))
    dialog = page.get_by_role("dialog", name="Disable?")
    await dialog.get_by_role("button", name="Disable").click()
    await expect(dialog.get_by_role("alert")).to_have_text("There is no such <b>breaker</b>.")
    look.wrong = [each for each in look.wrong if "status of 404" not in each]


async def test_a_worker_that_dies_is_told_with_its_suspect(shop, page_of_shop):
    """While the page is open; the other requests of that worker are suspects too, and come after."""
    look, page = page_of_shop, page_of_shop.page
    await look.section("workers")
    await becomes(lambda: number_of_workers(look), 2)
    held = [shop.traffic.begin(HELD, name) for name in range(6)]
    await becomes(lambda: look.tile("flight"), "6")
    before = set(await look.column("Workers"))
    assert shop.traffic.ask("/images/%3Cb%3Ecat%3C-/resize") is None
    await becomes(lambda: page.inner_text("#count-crashes"), "1")
    await look.section("crashes")
    await becomes(lambda: suspects(look), ["GET /images/<b>cat<-/resize"])
    (died,) = await look.column("Workers that died")
    assert died in before
    await page.get_by_role("button", name=died, exact=True).click()
    dialog = page.get_by_role("dialog", name=f"Worker {died} died")
    await expect(dialog).to_be_visible()
    first, *others = [row[1] for row in await look.rows("Suspects, the likeliest first")]
    assert first == "GET /images/<b>cat<-/resize"
    assert all(path.startswith("GET /hold/") for path in others)
    await page.keyboard.press("Escape")
    await becomes(lambda: number_of_workers(look), 2)
    assert died not in await look.column("Workers")
    shop.release()
    for thread in held:
        await asyncio.to_thread(thread.join)
    # A stream of that worker broke off; the page has come again to another.
    look.wrong = [each for each in look.wrong if "ERR_INCOMPLETE_CHUNKED_ENCODING" not in each]
    await expect(page.locator("#connection")).to_have_text("Live")


async def number_of_workers(look):
    return len(await look.rows("Workers"))


async def suspects(look):
    return list((await look.column("Workers that died", 2)).values())


async def test_the_alerts_are_those_of_what_was_done(shop, page_of_shop):
    """The circuit that was opened and the worker that died; what goes on stands in the navigation."""
    look = page_of_shop
    await look.section("alerts")
    await becomes(lambda: has_alerted(look, "CIRCUIT_BREAKER_TRIGGERED", "WORKER_DIED"), True)
    await becomes(lambda: going_on_as_counted(look), True)


async def has_alerted(look, *names):
    return {row[0] for row in await look.rows("Latest alerts")} >= {*names}


async def going_on_as_counted(look):
    going_on = await look.rows("Alerts that go on")
    return await look.page.inner_text("#count-alerts") == (str(len(going_on)) if going_on else "")


async def test_the_circuit_of_a_type_of_errors_is_told_to_refuse_nothing(shop, page_of_shop):
    """Nothing asks it here: it is said so in its row, in the question and in the alert, and it is
    not counted as refusing."""
    look, page = page_of_shop, page_of_shop.page
    before = shop.traffic.ask(INVOICE.path.format(0))
    name, says = "external_service", "refuses nothing unless code asks it"
    await look.section("breakers")
    await becomes(lambda: known_by(look, shop, name), 2)
    button = page.get_by_role("button", name=f"Force open: {name}").first
    row = page.get_by_role("table", name=CAPTION).get_by_role("row", name=name).first
    await expect(row).to_contain_text(says)
    await button.click()
    dialog = page.get_by_role("dialog", name="Force open?")
    await expect(dialog).to_contain_text(says)
    await expect(dialog).not_to_contain_text("refuses every call")
    await dialog.get_by_role("button", name="Force open").click()
    await expect(dialog).to_be_hidden()
    await becomes(lambda: is_forced_open(look, name), True)
    assert await page.inner_text("#count-breakers") == ""
    assert answers_as(shop, INVOICE, before)
    await look.section("alerts")
    alert = page.get_by_role("table", name="Alerts that go on").get_by_role("row", name=name)
    await expect(alert.filter(has_text="CIRCUIT_BREAKER_TRIGGERED")).to_contain_text(says)


async def known_by(look, shop, name):
    """How many workers have made a breaker: each with the first error that comes to it."""
    await asyncio.to_thread(shop.traffic.ask, INVOICE.path.format(1))
    return len(await states_of(look, name))


async def is_forced_open(look, name):
    return "forced open" in await states_of(look, name)


async def states_of(look, name):
    return [row[1] for row in await look.rows(CAPTION) if row[0].startswith(name)]


def answers_as(shop, call, status):
    return {shop.traffic.ask(call.path.format(at)) for at in range(IN_A_ROW)} == {status}
