import asyncio
from typing import Any

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

from .failing import fail


def make() -> Any:
    return server().http_app(stateless_http=True, json_response=True)


def server(**options: Any) -> Any:
    mcp = FastMCP("tests", **options)

    @mcp.tool
    def add(a: int, b: int) -> int:
        return a + b

    @mcp.tool
    def fails(kind: str) -> str:
        fail(kind)
        return ""

    @mcp.tool
    async def fails_later(kind: str) -> str:
        await asyncio.sleep(0)
        fail(kind)
        return ""

    @mcp.tool
    def meant() -> str:
        raise ToolError("not for you")

    @mcp.tool
    def caused() -> str:
        try:
            fail("value")
        except ValueError as error:
            raise ToolError("sorry") from error
        return ""

    @mcp.tool
    async def bears() -> str:
        try:
            await mcp.call_tool("fails", {"kind": "value"})
        except ToolError:
            return "borne"
        return ""

    @mcp.resource("data://fails")
    def resource() -> str:
        fail("value")
        return ""

    @mcp.prompt
    def prompt() -> str:
        fail("value")
        return ""

    return mcp
