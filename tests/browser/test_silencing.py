"""What is silenced or resolved on the page is so with all workers, and is said to who sees and who listens."""

import re

import pytest
from playwright.async_api import expect

from .looking import becomes
from .traffic import REVIEW

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHY = "<b>new</b> weights"
FORCE_OPEN = """() => fetch("breakers", {method: "POST", body: '{"name": "payments", "action": "force_open"}',
  headers: {"content-type": "application/json", "x-errorkit-ops": "1"}}).then(answer => answer.status)"""


async def named(look, caption):
    return {row[0] for row in await look.rows(caption)}


async def test_an_alert_is_silenced_and_told_again_by_keyboard(page_of_shop):
    """The focus stays where it was, or goes to what is left."""
    look, page = page_of_shop, page_of_shop.page
    assert await page.evaluate(FORCE_OPEN) == 200
    await look.section("alerts")
    row = page.get_by_role("table", name="Alerts that go on").get_by_role("row", name="CIRCUIT_")
    silence = row.get_by_role("button", name=re.compile("Silence CIRCUIT_BREAKER_TRIGGERED:"))
    await silence.focus()
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Silence alerts?")
    await dialog.get_by_label("For how long").select_option("14400")
    await dialog.get_by_label("Why").fill(WHY)
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_hidden()
    await expect(silence).to_be_focused()
    silences = page.get_by_role("table", name="Silences")
    await expect(silences.get_by_role("row").nth(1)).to_contain_text(WHY)
    await expect(silences.get_by_role("row").nth(1)).to_contain_text("in 3 h 59 min")
    await expect(row).to_contain_text("silenced")
    end = silences.get_by_role("button", name="End the silence of CIRCUIT_BREAKER_TRIGGERED")
    await end.focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#live")).to_contain_text("is silenced no more.")
    await expect(page.locator("#alerts")).to_contain_text("Nothing is silenced.")
    await expect(row).not_to_contain_text("silenced")
    assert await look.focused() == "Table: Silences"


async def test_a_pattern_is_silenced(page_of_shop):
    look, page = page_of_shop, page_of_shop.page
    await look.section("alerts")
    await page.get_by_role("button", name="Silence alerts", exact=True).click()
    dialog = page.get_by_role("dialog", name="Silence alerts?")
    await dialog.get_by_label("What").fill("MODEL_*")
    await dialog.get_by_role("button", name="Silence").click()
    await expect(page.locator("#live")).to_contain_text("MODEL_* is silenced for 1 h.")
    await becomes(lambda: named(look, "Silences"), {"MODEL_*"})


async def test_what_cannot_be_silenced_is_said_in_the_dialog(page_of_shop):
    look, page = page_of_shop, page_of_shop.page
    await look.section("alerts")
    await page.get_by_role("button", name="Silence alerts", exact=True).click()
    dialog = page.get_by_role("dialog", name="Silence alerts?")
    await dialog.get_by_label("What").fill("MODEL_\u202e*")
    await dialog.get_by_role("button", name="Silence").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("printable characters alone")
    look.wrong = [each for each in look.wrong if "status of 400" not in each]


async def test_a_group_tells_its_last_requests_and_is_resolved(shop, page_of_shop):
    """Until it comes again, which is an alert."""
    look, page = page_of_shop, page_of_shop.page
    for at in range(3):
        shop.traffic.send(REVIEW, at, X_Request_ID=f"asked-{at}")
    section = await look.section("errors")
    await section.get_by_role("button", name="ValueError").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_role("table", name="Last occurrences")).to_be_visible()
    listed = await look.rows("Last occurrences")
    assert [row[1].split()[0] for row in listed] == ["asked-2", "asked-1", "asked-0"]
    assert {(row[2], row[3]) for row in listed} == {(REVIEW.route, "500, server error")}
    await dialog.get_by_role("button", name="Resolve").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Resolved.")
    button = dialog.get_by_role("button", name="Resolve")
    await expect(button).to_have_attribute("aria-disabled", "true")
    await expect(button).to_be_focused()
    await expect(dialog.get_by_role("term").filter(has_text="Resolved")).to_have_count(1)
    await page.keyboard.press("Escape")
    cell = section.get_by_role("row", name="ValueError").get_by_role("cell").nth(3)
    await expect(cell.locator("time")).to_have_count(1)
    shop.traffic.send(REVIEW, 4)
    await expect(cell.locator("time")).to_have_count(0)
    await look.section("alerts")
    await becomes(lambda: came_back(look), True)


async def came_back(look):
    return "ERROR_CAME_BACK" in await named(look, "Latest alerts")


async def test_the_first_visit_makes_no_request_that_is_refused(shop, new_look):
    """Browsers tell of each in the console, as an error: `new_look` fails for one."""
    look = await new_look(shop.url)
    await look.page.goto(shop.url)
    await expect(look.page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert look.wrong == []
