"""The page: who is sent it, with which headers, and that nothing in it comes from elsewhere or runs text."""

import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from asgi_errorkit.ops import dashboard
from asgi_errorkit.ops.dashboard import ASSETS
from asgi_errorkit.ops.dashboard.files import POLICY
from asgi_errorkit.ops.events import Snapshots, recent

from .asking import BEARER, HOST, Served, ask

BROWSER = ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
FOLDER = files(dashboard)
SOURCES = {name: FOLDER.joinpath("assets", name).read_text() for name in ASSETS}
PAGE = FOLDER.joinpath("page.html").read_text()
SCRIPTS = {name: text for name, text in SOURCES.items() if name.endswith(".js")}


async def page(path="/_errorkit/", *headers, **more):
    return await Served().ask(path, HOST, BROWSER, *headers, **more)


# Who is sent what


async def test_a_browser_is_sent_the_page_without_the_token():
    """It holds no figure: it asks for the token itself."""
    reply = await page()
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert reply.body.decode() == PAGE
    assert (reply.headers["cache-control"], reply.headers["vary"]) == ("no-store", "accept")


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/html"])
async def test_a_program_is_sent_the_index_and_needs_the_token(accept):
    served, headers = Served(), [("Accept", accept)] if accept else []
    assert (await served.ask("/_errorkit/", HOST, *headers)).status == 401
    assert (
        "/errors" in (await served.ask("/_errorkit/", HOST, BEARER, *headers)).json()["endpoints"]
    )


@pytest.mark.parametrize("path", ["/_errorkit", "/deep/down/_errorkit"])
async def test_without_its_slash_the_page_shows_the_way(path):
    """Relative, so that what a proxy took from the path is kept; its files lie below."""
    served = Served()
    reply = await served.ask(path, HOST, BROWSER, root_path=path.removesuffix("/_errorkit"))
    assert (reply.status, reply.headers["location"]) == (307, "_errorkit/")


async def test_apart_the_page_stands_at_the_root():
    alone = Served().ops.app(Served().kit)
    assert (await ask(alone, "/", HOST, BROWSER)).body.decode() == PAGE
    assert (await ask(alone, "/assets/dom.js", HOST)).status == 200


@pytest.mark.parametrize("name", ASSETS)
async def test_each_file_is_sent_as_what_it_is(name):
    reply = await Served().ask(f"/_errorkit/assets/{name}", HOST)
    assert (reply.status, reply.body.decode()) == (200, SOURCES[name])
    assert reply.headers["content-type"].encode() == ASSETS[name]
    assert reply.headers["x-content-type-options"] == "nosniff"


async def test_a_file_that_the_browser_has_is_not_sent_again():
    """It is asked for each time: no two releases are mixed."""
    served = Served()
    first = await served.ask("/_errorkit/assets/dom.js", HOST)
    assert first.headers["cache-control"] == "no-cache"
    again = ("If-None-Match", f"W/{first.headers['etag']}")
    reply = await served.ask("/_errorkit/assets/dom.js", HOST, again)
    assert (reply.status, reply.body) == (304, b"")
    other = await served.ask("/_errorkit/assets/dom.js", HOST, ("If-None-Match", '"another"'))
    assert other.status == 200


PATHS = ["/", "/assets/dom.js", "/assets/dashboard.css"]


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_token_there_is_no_page(path):
    reply = await Served(token=None).ask(f"/_errorkit{path}", HOST, BROWSER)
    assert reply.status == 404


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        [("Host", "evil.example")],
        [HOST, ("Origin", "http://evil.example")],
        [HOST, ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")],
    ],
    ids=["host", "origin", "site"],
)
async def test_neither_other_names_nor_other_pages_get_it(path, headers):
    assert (await Served().ask(f"/_errorkit{path}", BROWSER, *headers)).status == 403


@pytest.mark.parametrize("path", PATHS)
async def test_it_is_looked_at_and_nothing_else(path):
    assert (await page(f"/_errorkit{path}", method="POST")).status == 401
    assert (await page(f"/_errorkit{path}", BEARER, method="POST")).status == 405
    assert (await page(f"/_errorkit{path}", method="HEAD")).body == b""


NO_FILES = ["/assets", "/assets/", "/assets/none.js", "/assets/page.html", "/assets/files.py",
            "/assets/assets/dom.js", "/dom.js", "/page.html"]  # fmt: skip


@pytest.mark.parametrize("path", NO_FILES)
async def test_what_is_no_file_of_it_is_as_hidden_as_all_else(path):
    served = Served()
    assert (await served.ask(f"/_errorkit{path}", HOST, BROWSER)).status == 401
    assert (await served.ask(f"/_errorkit{path}", HOST, BROWSER, BEARER)).status == 404


async def test_no_path_names_a_file_elsewhere():
    reply = await Served().ask("/_errorkit/assets/../files.py", HOST, BROWSER)
    assert reply.body == b"the app"


# What it may do


async def test_the_page_loads_and_asks_nothing_elsewhere_by_its_policy():
    policy = (await page()).headers["content-security-policy"]
    assert policy.encode() == POLICY
    told = dict(each.strip().split(" ", 1) for each in policy.split(";"))
    assert told.pop("img-src") == "'self' data:"
    kinds = ("script-src", "style-src", "connect-src")
    assert [told.pop(kind) for kind in kinds] == ["'self'"] * 3
    assert set(told.values()) == {"'none'"}
    assert set(told) == {"default-src", "base-uri", "form-action", "frame-ancestors"}


@pytest.mark.parametrize("name", ["page.html", *SOURCES])
def test_nothing_comes_from_elsewhere(name):
    """But the name of SVG, which is no address."""
    text = PAGE if name == "page.html" else SOURCES[name]
    urls = set(
        re.findall(r"(?:https?:|wss?:)?//[\w.]+[^\s\"']*", re.sub(r"(?m)^\s*//.*| // .*", "", text))
    )
    assert urls <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(|sourceMappingURL", text) or name == "api.js"


@pytest.mark.parametrize("name", SCRIPTS)
def test_text_never_becomes_markup_or_code(name):
    wrong = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function"
    )
    wrong += r"|createContextualFragment|srcdoc|setTimeout\(['\"`]|localStorage|sessionStorage"
    assert not re.search(wrong, SCRIPTS[name])


def test_every_module_is_served():
    """What one imports is in the table, and all in the table is imported, and lies there."""
    wanted = {name for text in SCRIPTS.values() for name in re.findall(r'from "\./(.*?)"', text)}
    assert wanted | {"dashboard.js"} == set(SCRIPTS)
    lying = {each.name for each in FOLDER.joinpath("assets").iterdir()}
    assert lying == set(ASSETS)


# How it is made

VOID = {"meta", "link", "input", "br", "hr", "img"}


class Read(HTMLParser):
    """The elements of the page; raises AssertionError where one is not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.elements = [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, *tags):
        return [attrs for tag, attrs in self.elements if tag in tags]


@pytest.fixture(scope="module")
def read():
    parser = Read()
    parser.feed(PAGE)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_well_formed_and_says_what_it_is(read):
    ids = [attrs["id"] for _, attrs in read.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert read.all("html")[0]["lang"] == "en"
    for tag in ("title", "h1", "main", "nav", "header", "footer"):
        assert len(read.all(tag)) == 1, tag
    for section in read.all("section"):
        assert section["aria-labelledby"] in ids
    assert all(not link["href"][1:] or link["href"][1:] in ids for link in read.all("a"))


def test_every_field_has_a_label(read):
    labelled = {label["for"] for label in read.all("label")}
    fields = [field for field in read.all("input", "select", "textarea") if "hidden" not in field]
    assert fields
    assert all(field["id"] in labelled for field in fields)
    assert read.all("input")[-1]["type"] == "password"


def test_nothing_in_the_page_runs_or_paints_by_itself(read):
    """The policy would refuse it."""
    for tag, attrs in read.elements:
        assert tag != "style"
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
    scripts = read.all("script")
    assert [script.get("src") for script in scripts] == ["assets/dashboard.js"]


def test_the_script_finds_what_it_asks_the_page_for(read):
    ids = {attrs["id"] for _, attrs in read.elements if "id" in attrs}
    text = SCRIPTS["dashboard.js"] + SCRIPTS["dom.js"]
    assert set(re.findall(r'byId\("([\w-]+)"\)', text)) <= ids


# What it draws


async def test_the_points_of_a_line_are_what_ended_within_them():
    """Of windows that are of whole spans, the one that goes on is left out."""
    served = Served()
    source = served.ops.app(served.kit)._answers.source
    for route in ("/a", "/a", "/boom"):
        await served.ask(route, HOST)
    served.clock.move(61)
    await served.ask("/a", HOST)
    assert sum(recent(source)["outcomes"].values()) == 0
    served.clock.move(6)
    told = recent(source)
    assert (told["outcomes"], told["seconds"]) == ({"ok": 1}, 5.0)
    assert told["percentiles"]["p50"] >= 0
    served.clock.move(3600)
    assert recent(source)["percentiles"] is None


async def test_a_point_is_made_once_in_its_time():
    served = Served()
    source = served.ops.app(served.kit)._answers.source
    make = Snapshots(source, clock=served.clock)
    first = make()["recent"]
    served.clock.move(4.9)
    assert make()["recent"] is first
    served.clock.move(0.1)
    assert make()["recent"] is not first
