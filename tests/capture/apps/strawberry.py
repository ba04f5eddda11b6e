import asyncio
from typing import Any

import strawberry
from fastapi import FastAPI
from graphql import GraphQLError
from strawberry.asgi import GraphQL
from strawberry.fastapi import GraphQLRouter
from strawberry.schema.config import StrawberryConfig

from .failing import fail


def make(**options: Any) -> Any:
    return GraphQL(schema(**options))


def by_router() -> Any:
    app = FastAPI()
    app.include_router(GraphQLRouter(schema()), prefix="/graphql")
    return app


def schema(**options: Any) -> Any:
    def even(value: str) -> int:
        if int(value) % 2:
            raise ValueError("odd")
        return int(value)

    number = strawberry.scalar(name="Even", serialize=str, parse_value=even)

    class Even(int):
        pass

    @strawberry.type
    class Query:
        @strawberry.field
        def ok(self) -> str:
            return "fine"

        @strawberry.field
        def fails(self, kind: str) -> str | None:
            fail(kind)
            return None

        @strawberry.field
        async def fails_later(self, kind: str) -> str | None:
            await asyncio.sleep(0)
            fail(kind)
            return None

        @strawberry.field
        def meant(self) -> str | None:
            raise GraphQLError("not for you")

        @strawberry.field
        def caused(self) -> str | None:
            try:
                fail("value")
            except ValueError as error:
                raise GraphQLError("sorry") from error
            return None

        @strawberry.field
        def even(self, number: Even) -> str:
            return str(number)

    config = StrawberryConfig(scalar_map={Even: number}, batching_config={"max_operations": 5})
    return strawberry.Schema(Query, config=config, **options)
