"""The pictures of README are of this page, and are made anew here: `make screenshots` keeps them."""

import asyncio
import os
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import expect

from .shop.ticks import TICKS
from .traffic import Traffic

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEPT = "ASGI_ERRORKIT_PICTURES"
WHEN = "figure:first-of-type .when"
MOST_BYTES = 200_000
DESK = {"viewport": {"width": 1280, "height": 800}, "device_scale_factor": 1.5}
PHONE = {
    "viewport": {"width": 360, "height": 780},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}


@pytest.fixture(scope="module")
def shop(open_shop):
    """Minutes of a shop, of which some are without its bank."""
    return open_shop("shop.staged:app", workers=1, path="/")


@pytest.fixture
def folder(tmp_path):
    return Path(os.environ.get(KEPT) or tmp_path)


async def keep(page, folder, name):
    """A picture in few colours: the page has no more."""
    shot = Image.open(BytesIO(await page.screenshot(animations="disabled", caret="hide")))
    few = shot.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    path = folder / f"{name}.png"
    few.save(path, optimize=True)
    assert path.stat().st_size < MOST_BYTES
    assert len(few.getcolors()) > 40  # not an empty page
    return path


async def test_the_pictures(shop, new_look, folder):
    """All points of the lines are there, the errors are, and nothing of this machine is."""
    desk = await (await new_look(shop.url, **DESK)).open()
    phone = await (await new_look(shop.url, color_scheme="dark", **PHONE)).open()
    for _ in range(TICKS):
        await pass_time(shop, (desk, phone))
    page = desk.page
    await page.evaluate("scrollTo(0, 0)")
    await expect(desk.page.locator("[data-tile=flight] .tile-value")).to_have_text("2")
    for scheme in ("dark", "light"):
        await page.emulate_media(color_scheme=scheme)
        await keep(page, folder, f"dashboard-{scheme}")
    await phone.page.evaluate("scrollTo(0, 0)")
    await keep(phone.page, folder, "dashboard-phone")
    section = await desk.section("errors")
    await section.get_by_role("button", name="PaymentError").click()
    dialog = page.get_by_role("dialog", name="PaymentError: an order of")
    await expect(dialog).to_contain_text("POST /orders/")
    await expect(dialog).to_contain_text("shop/payments.py")
    await page.set_viewport_size({"width": 1100, "height": 1150})
    await keep(page, folder, "dashboard-error")
    text = await page.locator("html").inner_text()
    assert not [part for part in (*Path(__file__).parts[1:3], "/tmp/") if f"/{part}/" in text]


async def pass_time(shop, looks):
    """Five seconds, until all pages have drawn them."""
    before = [await latest(look) for look in looks]
    assert await asyncio.to_thread(Traffic(shop.running.port).ask, "/tick") == 200
    for look, time in zip(looks, before, strict=True):
        await expect(look.page.locator(WHEN)).not_to_have_text(time)


async def latest(look):
    """The time of the last point of the lines."""
    return await look.page.inner_text(WHEN)
