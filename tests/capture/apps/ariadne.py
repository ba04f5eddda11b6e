import asyncio
from typing import Any

from ariadne import QueryType, ScalarType, make_executable_schema
from ariadne.asgi import GraphQL
from ariadne.asgi.handlers import GraphQLHTTPHandler
from graphql import GraphQLError

from .failing import fail


def make(**options: Any) -> Any:
    query, even = QueryType(), ScalarType("Even")

    @even.value_parser
    def parse(value: str) -> int:
        if int(value) % 2:
            raise ValueError("odd")
        return int(value)

    @query.field("ok")
    def ok(*_: Any) -> str:
        return "fine"

    @query.field("even")
    def evenly(*_: Any, number: int) -> str:
        return str(number)

    @query.field("fails")
    @query.field("must")
    def fails(*_: Any, kind: str) -> None:
        fail(kind)

    @query.field("failsLater")
    async def fails_later(*_: Any, kind: str) -> None:
        await asyncio.sleep(0)
        fail(kind)

    @query.field("meant")
    def meant(*_: Any) -> None:
        raise GraphQLError("not for you")

    @query.field("caused")
    def caused(*_: Any) -> None:
        try:
            fail("value")
        except ValueError as error:
            raise GraphQLError("sorry") from error

    types = """
        scalar Even
        type Query {
            ok: String! fails(kind: String!): String failsLater(kind: String!): String
            must(kind: String!): String! meant: String caused: String even(number: Even!): String
        }
    """
    handler = GraphQLHTTPHandler(**options)
    return GraphQL(make_executable_schema(types, query, even), http_handler=handler)
