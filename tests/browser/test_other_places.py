"""Elsewhere: of a hundred thousand routes, and below the root path of another application."""

import pytest
from playwright.async_api import expect

from .looking import becomes
from .shop.routes import MANY
from .traffic import MIXED, Traffic

pytestmark = pytest.mark.asyncio(loop_scope="module")

A_PAGE = 25


@pytest.fixture(scope="module")
def many(open_shop):
    return open_shop("shop.many:app", workers=1, path="/")


@pytest.fixture(scope="module")
def branch(open_shop):
    return open_shop("shop.app:mounted", workers=1, path="/branch/_errorkit/")


async def routes_of(look):
    """The labels on the page; no row is made but for them."""
    listed = list(await look.column("Routes"))
    assert len(listed) <= A_PAGE
    return listed


async def opened(new_look, many):
    look = await (await new_look(many.url)).open()
    await look.section("routes")
    await becomes(lambda: number_of_rows(look), A_PAGE)
    return look


async def number_of_rows(look):
    return await look.page.locator("#routes tbody tr").count()


def by(name, *, is_falling=True):
    """The labels in the order of a figure."""
    return sorted(MANY, key=lambda label: MANY[label][name], reverse=is_falling)


async def test_a_hundred_thousand_routes_are_paged(many, new_look):
    """From the first page to the last, and none is made of which no row is seen."""
    look = await opened(new_look, many)
    busiest, pager = by("requests"), look.page.get_by_role("group", name="Pages: Routes")
    assert await routes_of(look) == busiest[:A_PAGE]
    await expect(pager).to_contain_text("1–25 of 100,000")
    await pager.get_by_role("button", name="Next page").click()
    assert await routes_of(look) == busiest[A_PAGE : 2 * A_PAGE]
    await pager.get_by_role("button", name="Last page").click()
    await expect(pager).to_contain_text("99,976–100,000 of 100,000")
    assert await routes_of(look) == busiest[-A_PAGE:]
    await expect(pager.get_by_role("button", name="Last page")).to_be_focused()
    await pager.get_by_role("button", name="First page").click()
    assert await routes_of(look) == busiest[:A_PAGE]
    await pager.get_by_label("Rows").select_option("100")
    assert list(await look.column("Routes")) == busiest[:100]
    assert await look.page.locator("tr").count() < 200


async def test_a_hundred_thousand_routes_are_sorted(many, new_look):
    look = await opened(new_look, many)
    heads = look.page.get_by_role("table", name="Routes")
    await heads.get_by_role("button", name="Route", exact=True).click()
    assert await routes_of(look) == sorted(MANY)[:A_PAGE]
    await heads.get_by_role("button", name="Route", exact=True).click()
    assert await routes_of(look) == sorted(MANY)[: -A_PAGE - 1 : -1]
    await heads.get_by_role("button", name="Failed", exact=True).click()
    assert {MANY[label]["failed"] for label in await routes_of(look)} == {6}
    await heads.get_by_role("button", name="Requests", exact=True).click()
    await heads.get_by_role("button", name="Requests", exact=True).click()
    assert await routes_of(look) == by("requests", is_falling=False)[:A_PAGE]


async def test_a_hundred_thousand_routes_are_filtered(many, new_look):
    look = await opened(new_look, many)
    field = look.page.locator("#routes").get_by_role("searchbox", name="Filter")
    await field.fill("/V99999/")
    assert await routes_of(look) == ["GET /v99999/items/{item}"]
    await field.fill("/v1234")
    found = [label for label in by("requests") if "/v1234" in label]
    assert await routes_of(look) == found[:A_PAGE]
    assert len(found) == 11
    await field.fill("")
    assert await routes_of(look) == by("requests")[:A_PAGE]


async def test_of_what_cannot_act_nothing_is_asked(many, new_look):
    """It says so where there is nothing on record, and has no button that sets a breaker."""
    look = await (await new_look(many.url)).open()
    await expect(await look.section("breakers")).to_contain_text(
        "No circuit breaker has been used."
    )
    assert await look.page.get_by_role("button", name="Force open").count() == 0


async def test_below_a_root_path_all_is_found(branch, new_look):
    """The page, its files, its stream, its cookie and what it asks for."""
    look = await (await new_look(branch.url)).open()
    traffic = Traffic(branch.running.port)
    for at, call in enumerate(MIXED):
        traffic.ask("/branch" + call.path.format(at))
    await becomes(lambda: look.tile("requests"), str(len(MIXED)))
    section = await look.section("errors")
    await section.get_by_role("button", name="ConnectionError").click()
    await expect(look.page.get_by_role("dialog")).to_contain_text("GET /branch/invoices/")
    (cookie,) = await look.context.cookies()
    assert cookie["path"] == "/branch/_errorkit"
    assert all("/branch/_errorkit/" in url for url in look.asked if not url.startswith("data:"))


async def test_the_page_without_its_slash_shows_the_way(branch, new_look):
    look = await new_look(branch.url.removesuffix("/"))
    await look.open()
    assert look.page.url == branch.url
