"""What any of the frames around an app has asked to be told of, is told."""

import asyncio
import gc
from typing import Any

import pytest
from quart import Quart, Response

from asgi_errorkit import ErrorHandlingMiddleware, ErrorTracker, Recorder
from asgi_errorkit.testing import request


def failing() -> Quart:
    app = Quart(__name__)

    @app.get("/fail")
    async def fail() -> str:
        raise MemoryError

    @app.get("/orphan")
    async def orphan() -> str:
        async def fails() -> None:
            raise TimeoutError

        task = asyncio.create_task(fails())
        await asyncio.wait([task])
        return "fine"

    @app.get("/later")
    async def later() -> Response:
        async def fails() -> None:
            raise TimeoutError

        app.add_background_task(fails)
        return Response("fine")

    return app


def kit(app: Any, capture: Any) -> ErrorHandlingMiddleware:
    tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
    return ErrorHandlingMiddleware(app, tracker, capture=capture)


def types(kit: ErrorHandlingMiddleware) -> dict[str, int]:
    told: dict[str, int] = kit.error_tracker.get_error_stats()["errors_by_type"]
    return told


@pytest.mark.parametrize("inner", [False, True, ["falcon"], ["quart"]])
@pytest.mark.parametrize("outer", [True, ["quart"]])
async def test_a_failure_is_known_to_both_if_either_has_asked(inner: Any, outer: Any) -> None:
    within = kit(failing(), inner)
    around = kit(within, outer)
    await request(around, path="/fail")
    assert types(around) == types(within) == {"memory": 1}


async def test_where_neither_asks_the_status_tells() -> None:
    within = kit(failing(), capture=False)
    around = kit(within, capture=["falcon"])
    await request(around, path="/fail")
    assert types(around) == types(within) == {"unknown": 1}


@pytest.mark.parametrize("path", ["/orphan", "/later"])
@pytest.mark.parametrize(
    ("inner", "outer", "told"),
    [
        (False, True, (0, 1)),
        (True, False, (1, 0)),
        (True, True, (1, 0)),
        (False, False, (0, 0)),
    ],
)
async def test_what_fails_beside_a_request_is_told_to_one_that_has_asked(
    path: str, inner: Any, outer: Any, told: tuple[int, int]
) -> None:
    """The innermost of them: its kit is the nearest to the code that fails."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    app = failing()
    within = kit(app, inner)
    around = kit(within, outer)
    await request(around, path=path)
    await asyncio.gather(*app.background_tasks)
    gc.collect()
    assert (sum(types(within).values()), sum(types(around).values())) == told


async def test_an_orphan_that_only_the_outer_kit_wants_is_not_lost() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    within = kit(failing(), capture=["quart"])
    around = kit(within, capture=True)
    await request(around, path="/orphan")
    gc.collect()
    assert (types(within), types(around)) == ({}, {"timeout": 1})
