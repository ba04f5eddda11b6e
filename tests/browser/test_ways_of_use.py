"""By keyboard, by screen reader, on a phone, in the dark: the page is the same for all."""

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from .looking import becomes
from .traffic import HELD

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECTIONS = {
    "Overview", "Alerts", "Errors", "Routes", "Circuit breakers", "In flight", "Workers", "Crashes",
}  # fmt: skip
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
SCHEMES = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "dark phone": {"color_scheme": "dark", **PHONE},
}


@pytest.fixture(scope="module")
def shop(open_shop):
    """With a little of everything: errors, something in flight, and a worker that died."""
    shop = open_shop()
    shop.traffic.ask("/images/cat/resize")
    shop.traffic.mixed(2)
    threads = [shop.traffic.begin(HELD, name) for name in ("a", "b")]
    yield shop
    shop.release()
    for thread in threads:
        thread.join()


# By keyboard alone


async def test_the_first_key_leads_to_the_figures(page_of_shop):
    page = page_of_shop.page
    await page.keyboard.press("Tab")
    assert await page_of_shop.focused() == "Skip to the figures"
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()


async def test_all_that_is_reached_is_seen_to_be_reached_and_has_a_name(page_of_shop):
    """Once around: every stop has an outline and a name, and all sections have stops."""
    look, page = page_of_shop, page_of_shop.page
    for name in ("errors", "routes", "flight", "crashes"):
        await expect(await look.section(name)).not_to_contain_text("Not loaded yet.")
    await page.locator(".skip").focus()
    stops = []
    while len(stops) < 400:
        await page.keyboard.press("Tab")
        stop = await page.evaluate(_STOP)
        if stop[0] == "BODY":
            break
        stops.append(stop)
    assert 40 < len(stops) < 400
    assert [stop for stop in stops if not stop[1] or stop[2] == "none"] == []
    assert {stop[0] for stop in stops} >= {
        "overview", "alerts", "errors", "routes", "breakers", "flight", "workers", "crashes",
    }  # fmt: skip


_STOP = """() => {
  const it = document.activeElement;
  const name = it.getAttribute("aria-label") ?? (it.labels?.[0] ?? it).innerText;
  return [it.closest("section")?.id ?? it.tagName, name, getComputedStyle(it).outlineStyle,
    it.getBoundingClientRect().top + scrollY, it.getBoundingClientRect().left];
}"""


async def test_each_link_leads_to_its_section_and_is_current_then(page_of_shop):
    """The last one too, below which there is nothing."""
    look, page = page_of_shop, page_of_shop.page
    for name in ("errors", "routes", "flight", "crashes"):
        await expect(await look.section(name)).not_to_contain_text("Not loaded yet.")
    links = page.get_by_role("navigation", name="Sections").get_by_role("link")
    for at in (1, 7, 2, 4, 0):
        await links.nth(at).click()
        await expect(links.nth(at)).to_have_attribute("aria-current", "location")
        await expect(page.locator("nav [aria-current]")).to_have_count(1)


async def test_a_table_is_sorted_by_keyboard(page_of_shop):
    """The head keeps the focus, also when new figures come; screen readers are told the order."""
    look, page = page_of_shop, page_of_shop.page
    await look.section("routes")
    await becomes(lambda: is_listed(look), True)
    table = page.get_by_role("table", name="Routes")
    head = table.get_by_role("columnheader", name="Route", exact=True)
    await head.get_by_role("button").focus()
    for order, is_falling in (("ascending", False), ("descending", True)):
        await page.keyboard.press("Enter")
        await expect(head).to_have_attribute("aria-sort", order)
        labels = list(await look.column("Routes"))
        assert labels == sorted(labels, reverse=is_falling)
    seen = await page.get_attribute("#figures", "data-seen")
    await expect(page.locator(f"#figures:not([data-seen='{seen}'])")).to_be_visible()
    assert await look.focused() == "Route"


async def is_listed(look):
    return len(await look.rows("Routes")) > 4


async def test_a_table_is_filtered(page_of_shop):
    look, page = page_of_shop, page_of_shop.page
    section = await look.section("routes")
    await becomes(lambda: is_listed(look), True)
    await section.get_by_role("searchbox", name="Filter").fill("INVOICES")
    assert list(await look.column("Routes")) == ["GET /invoices/{order}"]
    await section.get_by_role("searchbox", name="Filter").fill("no such thing")
    await expect(section).to_contain_text("Nothing matches the filter.")
    await page.keyboard.press("Control+A")
    await page.keyboard.press("Delete")
    assert len(await look.column("Routes")) > 4


@pytest.mark.parametrize("leave", ["Escape", "Close"])
async def test_a_dialog_takes_the_focus_and_gives_it_back(page_of_shop, leave):
    look, page = page_of_shop, page_of_shop.page
    section = await look.section("errors")
    opener = section.get_by_role("button", name="ConnectionError")
    await opener.focus()
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="ConnectionError: the bank")
    await expect(dialog.get_by_role("heading", level=2)).to_be_focused()
    for _ in range(30):  # all stops of it and more: none is in the page behind it
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.closest('header, nav, main')") is None
    if leave == "Close":
        await dialog.get_by_role("button", name="Close").focus()
    await page.keyboard.press("Enter" if leave == "Close" else "Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(opener).to_be_focused()


async def test_a_chart_is_read_by_arrow_keys(page_of_shop):
    """It says the time and the figures of the point, and no time before the first or after the last."""
    page = page_of_shop.page
    chart = page.get_by_role("img", name="Requests by outcome, at ")
    first = await chart.get_attribute("aria-label")
    assert ": OK " in first
    await expect(chart).not_to_have_attribute("aria-label", first)
    second = await chart.get_attribute("aria-label")
    await chart.focus()
    for key, expected in (("ArrowLeft", first), ("ArrowLeft", first), ("ArrowRight", second)):
        await page.keyboard.press(key)
        await expect(chart).to_have_attribute("aria-label", expected)


# By screen reader


async def test_every_part_has_its_role_and_name(page_of_shop):
    look, page = page_of_shop, page_of_shop.page
    for name in SECTIONS:
        region = page.get_by_role("region", name=name, exact=True)
        await expect(region.get_by_role("heading", name=name, exact=True, level=2)).to_have_count(1)
    await expect(page.get_by_role("navigation", name="Sections").get_by_role("link")).to_have_count(
        8
    )
    await expect(page.get_by_role("list", name="The last 5 minutes")).to_have_count(1)
    await expect(page.get_by_role("status")).to_have_count(1)
    await expect(page.get_by_role("img", name="Latency, ")).to_have_count(1)
    for name in ("errors", "routes", "workers", "crashes"):
        await expect(await look.section(name)).not_to_contain_text("Not loaded yet.")
    snapshot = await page.get_by_role("table", name="Groups of errors").aria_snapshot()
    assert '- table "Groups of errors":' in snapshot
    assert '- columnheader "Error":' in snapshot
    assert '- rowheader "ConnectionError the bank does not answer for 1250 cents":' in snapshot


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_the_rules_of_axe_hold(shop, new_look, scheme):
    """Contrast, names, roles, order of headings: of all sections, of a group, and of a question."""
    look = await (await new_look(shop.url, **SCHEMES[scheme])).open()
    for name in ("errors", "routes", "breakers", "flight", "workers", "crashes"):
        await expect(await look.section(name)).not_to_contain_text("Not loaded yet.")
    await assert_no_violations(look)
    await (await look.section("errors")).get_by_role("button", name="ValueError").click()
    await assert_no_violations(look)
    await look.page.keyboard.press("Escape")
    await (await look.section("breakers")).get_by_role("button", name="Disable").first.click()
    await assert_no_violations(look)


async def assert_no_violations(look):
    found = await Axe().run(look.page)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 15


async def test_axe_notices(shop, new_look):
    """What has no name, and what can hardly be read."""
    look = await (await new_look(shop.url)).open()
    await look.page.evaluate("""() => {
      document.querySelector("#sign-out").replaceChildren();
      document.querySelector(".brand").style.color = "#eee";
    }""")
    found = await Axe().run(look.page)
    names = {each["id"] for each in found.response["violations"]}
    assert {"button-name", "color-contrast"} <= names
    await look.page.reload()
    await look.live()


async def test_the_sign_in_is_readable_too(shop, new_look):
    look = await new_look(shop.url)
    await look.page.goto(shop.url)
    await expect(look.page.get_by_role("heading", name="Sign in")).to_be_visible()
    await assert_no_violations(look)
    look.wrong = [each for each in look.wrong if "status of 401" not in each]


# On other screens


async def test_it_follows_the_scheme_of_the_device(page_of_shop):
    """Also while it is open."""
    page = page_of_shop.page
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    for scheme, is_light in (("dark", False), ("light", True)):
        await page.emulate_media(color_scheme=scheme)
        assert all((part > 128) is is_light for part in await page.evaluate(ground))


@pytest.mark.parametrize("width", [320, 360, 768])
async def test_nothing_scrolls_sideways(shop, new_look, width):
    """But what scrolls by itself: source and the navigation. Rows of tables are cards there, whose
    cells say what they are, and none of whose buttons is off the screen."""
    screen = {"viewport": {"width": width, "height": 740}}
    look = await (await new_look(shop.url, **screen)).open()
    for name in ("alerts", "errors", "routes", "breakers", "flight", "workers", "crashes"):
        await expect(await look.section(name)).not_to_contain_text("Not loaded yet.")
        assert await widest(look) <= width
    assert await look.page.evaluate(_SCROLLING) == []
    assert {"State", "By hand", "Last seen"} <= set(await look.page.evaluate(_LABELS))
    await (await look.section("errors")).get_by_role("button", name="ValueError").click()
    await expect(look.page.get_by_role("dialog")).to_contain_text("GET /reviews/")
    assert await widest(look) <= width
    dialog = look.page.get_by_role("dialog")
    assert await dialog.evaluate("it => it.scrollWidth - it.clientWidth") == 0
    close = await dialog.get_by_role("button", name="Close").bounding_box()
    assert close["height"] < close["width"]  # one line, beside however long a message


_SCROLLING = """() => [...document.querySelectorAll(".scroll")]
  .filter(it => it.scrollWidth > it.clientWidth).map(it => it.getAttribute("aria-label"))"""
_LABELS = """() => [...document.querySelectorAll(".stacks td")]
  .map(it => getComputedStyle(it, "::before").content.split('"')[1])"""


async def widest(look):
    return await look.page.evaluate(
        "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
    )
