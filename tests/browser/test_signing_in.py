"""Who has the token sees the figures, nobody else does, and nothing keeps the token."""

import pytest
import pytest_asyncio
from playwright.async_api import expect

from .looking import becomes
from .shop.token import TOKEN

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def shop(open_shop):
    return open_shop(workers=1)


@pytest_asyncio.fixture(loop_scope="module")
async def closed(shop, new_look):
    """A page that asks for the token."""
    look = await new_look(shop.url)
    await look.page.goto(shop.url)
    await expect(look.page.get_by_role("heading", name="Sign in")).to_be_visible()
    return look


def forget_refusals(look):
    """The console tells of each 401 by itself: take those away, and those alone."""
    look.wrong = [each for each in look.wrong if "status of 401" not in each]


async def test_by_the_token(closed):
    page = closed.page
    await expect(page.get_by_label("Token")).to_be_focused()
    await expect(page.locator("#figures")).to_be_hidden()
    await page.get_by_label("Token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await closed.live()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_hidden()
    assert await page.get_by_label("Token").input_value() == ""
    forget_refusals(closed)


@pytest.mark.parametrize("token", [TOKEN[:-1], f"{TOKEN}x", "", "a" * 5000, "é ключ 💥"])
async def test_another_token_is_refused(closed, token):
    """And said so; the right one is taken after it."""
    page = closed.page
    await page.get_by_label("Token").fill(token)
    await page.evaluate("document.querySelector('#sign-in').noValidate = true")
    await page.get_by_role("button", name="Sign in").click()
    if token:
        await expect(page.get_by_role("alert")).not_to_be_empty()
    await expect(page.locator("#figures")).to_be_hidden()
    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Sign in").click()
    await closed.live()
    forget_refusals(closed)


async def test_by_a_link(shop, new_look):
    """The token is out of the address at once, in no history, and sent in no URL."""
    look = await new_look(shop.url)
    await look.page.goto(f"{shop.url}#token={TOKEN}")
    await look.live()
    assert look.page.url == shop.url
    assert not [url for url in look.asked if TOKEN in url]
    await look.page.goto("about:blank")
    await look.page.go_back()
    await look.live()
    assert look.page.url == shop.url


async def test_by_a_wrong_link(shop, new_look):
    look = await new_look(shop.url)
    await look.page.goto(f"{shop.url}#token=wrong-{TOKEN}")
    await expect(look.page.get_by_role("alert")).to_have_text("That is not the token.")
    assert look.page.url == shop.url
    forget_refusals(look)


async def test_signing_out_takes_all_away(shop, new_look):
    look = await (await new_look(shop.url)).open()
    assert len(await look.context.cookies()) == 1
    await look.page.get_by_role("button", name="Sign out").click()
    await expect(look.page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert await look.context.cookies() == []
    assert await look.page.locator("#figures table, #figures .tile").count() == 0
    forget_refusals(look)


async def test_what_is_kept_is_a_cookie_that_scripts_cannot_read(shop, new_look):
    """It is not the token, and it goes nowhere but to the ops app."""
    look = await (await new_look(shop.url)).open()
    (cookie,) = await look.context.cookies()
    assert cookie["httpOnly"]
    assert (cookie["sameSite"], cookie["path"]) == ("Strict", "/_errorkit")
    assert TOKEN not in str(await look.context.storage_state())
    assert await look.page.evaluate("document.cookie") == ""
    await look.check()


async def test_a_session_that_ends_asks_for_the_token(shop, new_look):
    """The figures are hidden as soon as an answer says so."""
    look = await (await new_look(shop.url)).open()
    await look.section("errors")
    await look.context.clear_cookies()
    await expect(look.page.get_by_role("heading", name="Sign in")).to_be_visible()
    await expect(look.page.locator("#figures")).to_be_hidden()
    await becomes(lambda: state(look), "Not signed in")
    forget_refusals(look)


async def state(look):
    return await look.page.inner_text("#connection")
