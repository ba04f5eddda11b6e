"""The demo's app: an AI video API on FastAPI, with the kit around it.

Serve it by hand with ``uvicorn asgi_errorkit.demo.app:app``.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
import psutil
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Depends,
    FastAPI,
    HTTPException,
    Query,
    Request,
    WebSocket,
)
from fastapi.requests import HTTPConnection
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from asgi_errorkit import (
    Answer,
    CircuitPolicy,
    ErrorKit,
    ErrorType,
    FallbackMiddleware,
    MiddlewareStack,
    PublicError,
    fail_after,
)
from asgi_errorkit.alerts import Alerts, Thresholds, Timing
from asgi_errorkit.attempt import Failing
from asgi_errorkit.demo.restoring import Reel
from asgi_errorkit.demo.studio import MODELS, Studio, Video
from asgi_errorkit.demo.surroundings import Surroundings
from asgi_errorkit.demo.trouble import TROUBLES, damaged_stream, load_weights, pack_tightly
from asgi_errorkit.demo.upscaler import CIRCUIT, upscaled_size
from asgi_errorkit.demo.video import Film, draw, look_at
from asgi_errorkit.exchange import Exchange
from asgi_errorkit.ops import Ops

__all__ = ["app", "create_app"]

_CHUNK_BYTES = 1024
_UPLOAD_LIMIT_BYTES = 4 * 1024 * 1024
_UPSCALER_SECONDS = 1.0
_UPSCALER_POLICY = CircuitPolicy(
    window_calls=10, minimum_number_of_calls=5, open_seconds=2, max_open_seconds=3
)
_MUCH_MEMORY_MB = 100.0
_BLOCKED_AFTER_SECONDS = 0.1

watching = APIRouter()
videos = APIRouter(prefix="/videos")


def create_app() -> ErrorKit:
    """The API, set up first and wrapped last: what is wrapped is finished."""
    around = Surroundings.of(os.environ)
    api = FastAPI(title="AI Video API")
    api.state.studio = Studio()
    api.state.upscaler_port = around.upscaler_port
    api.include_router(watching)
    api.include_router(videos)
    stack = MiddlewareStack()
    stack.add_middleware(FallbackMiddleware, fallbacks={"GET /videos/{id}/upscaled": _as_it_is})
    kit = ErrorKit(
        api,
        stack=stack,
        alerts=_alerts(around),
        ops=Ops(token=around.token),
        blocked_after_seconds=_BLOCKED_AFTER_SECONDS,
    )
    api.state.kit = kit
    return kit


def _alerts(around: Surroundings) -> Alerts:
    """Of what is worth an alert in a demo, and told within seconds: nobody stays for minutes."""
    used_mb = psutil.Process().memory_info().rss / 2**20
    return Alerts(
        to=[around.hook] if around.hook else [],
        secret=around.secret,
        thresholds=Thresholds(memory_mb=used_mb + _MUCH_MEMORY_MB),
        timing=Timing(
            wait_seconds=1,
            interval_seconds=2,
            repeat_seconds=3600,
            resolve_seconds=4,
            most_per_hour=1000,
        ),
        every_seconds=1,
    )


def _as_it_is(exchange: Exchange, failing: Failing) -> Answer:
    """What is answered where the upscaler has not: the video in the size that it has, and why."""
    told = {"upscaled": False, "because": type(failing.exc).__name__}
    return Answer(200, [(b"content-type", b"application/json")], orjson.dumps(told))


def _kit(connection: HTTPConnection) -> ErrorKit:
    kit: ErrorKit = connection.app.state.kit
    return kit


def _studio(connection: HTTPConnection) -> Studio:
    studio: Studio = connection.app.state.studio
    return studio


TheKit = Annotated[ErrorKit, Depends(_kit)]
TheStudio = Annotated[Studio, Depends(_studio)]
Minutes = Annotated[float, Query(gt=0, le=60)]


@watching.get("/health")
async def health() -> dict[str, Any]:
    return {"status": "healthy", "timestamp": time.time()}


@watching.get("/errors/stats")
async def error_stats(kit: TheKit, window_minutes: Minutes = 5) -> dict[str, Any]:
    return kit.get_error_stats(window_minutes)


@watching.get("/errors/groups")
async def error_groups(kit: TheKit) -> list[dict[str, Any]]:
    return [
        {
            "group": group.fingerprint,
            "error_type": group.error_type.value,
            "exception": group.type_name,
            "message": group.message,
            "where": group.where,
            "count": group.count,
            "routes": group.routes,
        }
        for group in kit.tracker.groups()
    ]


@watching.get("/performance/stats")
async def performance_stats(kit: TheKit, window_minutes: Minutes = 5) -> dict[str, Any]:
    return kit.get_performance_stats(window_minutes)


@watching.get("/status")
async def status(kit: TheKit) -> dict[str, Any]:
    return kit.status()


class Order(BaseModel):
    """What is to be generated."""

    model_config = ConfigDict(protected_namespaces=())  # for model_name

    prompt: str = Field(min_length=1, max_length=500)
    model_name: str = MODELS[0]
    frames: int = Field(default=24, ge=1, le=120)
    size: int = Field(default=64, ge=8, le=256)


@videos.get("")
async def all_videos(studio: TheStudio) -> dict[str, int]:
    return {"ordered": studio.ordered, "completed": studio.completed, "failed": studio.failed}


@videos.post("/generate", status_code=202)
async def generate(order: Order, studio: TheStudio, tasks: BackgroundTasks) -> dict[str, Any]:
    _check_model(order.model_name)
    video = studio.order(Film(order.prompt, order.model_name, order.frames, order.size))
    tasks.add_task(studio.render, video)
    return _described(video)


@videos.post("/upload")
async def upload(request: Request) -> dict[str, int]:
    """Takes a GIF as it streams in, and looks at every frame of it."""
    image = bytearray()
    async for piece in request.stream():
        image += piece
        if len(image) > _UPLOAD_LIMIT_BYTES:
            raise HTTPException(413, f"A video may have {_UPLOAD_LIMIT_BYTES} bytes at most.")
    try:
        seen = await asyncio.to_thread(look_at, bytes(image))
    except (OSError, EOFError, ValueError) as error:
        raise PublicError(
            "This is no GIF that can be read.", error_type=ErrorType.VALIDATION
        ) from error
    return {"bytes": len(image), "frames": seen.frames, "width": seen.width, "height": seen.height}


@videos.post("/restore")
async def restore(request: Request) -> dict[str, int]:
    """Unpacks an old film as it streams in, and keeps all of it in memory until it is there."""
    reel = Reel()
    async for piece in request.stream():
        await asyncio.to_thread(reel.take, piece)
    return {"bytes": reel.size}


@videos.get("/{video_id}")
async def one_video(video_id: str, studio: TheStudio) -> dict[str, Any]:
    if video_id in TROUBLES:
        await TROUBLES[video_id]()
    return _described(await _found(studio, video_id))


@videos.get("/{video_id}/upscaled")
async def upscaled(
    request: Request, video_id: str, kit: TheKit, studio: TheStudio
) -> dict[str, Any]:
    """In twice the size, by a service that is asked only while its circuit is closed."""
    video = await _found(studio, video_id)
    async with kit.tracker.breaker(CIRCUIT, _UPSCALER_POLICY), fail_after(_UPSCALER_SECONDS):
        size = await upscaled_size(request.app.state.upscaler_port, video.film.size)
    return {"upscaled": True, "size": size}


@videos.get("/{video_id}/packed")
async def packed(video_id: str, studio: TheStudio) -> dict[str, int]:
    """Forgets that nothing else runs meanwhile: what takes long belongs into a thread."""
    video = await _found(studio, video_id)
    return {"bytes": len(pack_tightly(video.image))}


@videos.get("/{video_id}/download")
async def download(
    video_id: str,
    studio: TheStudio,
    kilobytes_per_second: Annotated[float, Query(gt=0)] = 1_000_000,
) -> StreamingResponse:
    """The video in chunks, no faster than asked; ``damaged_video`` breaks on the way."""
    if video_id == "damaged_video":
        sample = await _found(studio, "sample_video")
        return StreamingResponse(damaged_stream(sample.image), media_type="image/gif")
    video = await _found(studio, video_id)
    pause_seconds = _CHUNK_BYTES / 1000 / kilobytes_per_second
    return StreamingResponse(_chunks(video.image, pause_seconds), media_type="image/gif")


@videos.websocket("/{video_id}/progress")
async def progress(
    socket: WebSocket, video_id: str, frames: Annotated[int, Query(ge=1, le=120)] = 8
) -> None:
    """Renders a video live, tells of each frame, and waits for a word after every fourth."""
    if video_id == "private_video":
        await socket.close(code=1008)  # before it is accepted: the server answers 403
        return
    await socket.accept()
    film = Film(f"live {video_id}", MODELS[0], frames, 48)
    for number in range(frames):
        if video_id == "model_video" and number == 2:
            await asyncio.to_thread(load_weights, "damaged-diffusion")
        picture = await asyncio.to_thread(draw, film, number)
        brightness = sum(picture.tobytes()) // film.size**2
        await socket.send_json({"frame": number + 1, "frames": frames, "brightness": brightness})
        if number % 4 == 3:
            await socket.receive_text()
    await socket.close()


def _check_model(model_name: str) -> None:
    if model_name not in MODELS:
        raise PublicError(
            "There is no such model.",
            error_type=ErrorType.NOT_FOUND,
            context={"model_name": model_name, "models": list(MODELS)},
        )
    if model_name == "premium-diffusion":
        raise PublicError(
            "Every machine that can run this model is busy.",
            error_type=ErrorType.RATE_LIMIT,
            retry_after_seconds=30,
        )


async def _found(studio: Studio, video_id: str) -> Video:
    video = await studio.find(video_id)
    if video is None:
        raise HTTPException(404, "There is no such video.")
    return video


def _described(video: Video) -> dict[str, Any]:
    film = video.film
    return {
        "video_id": video.video_id,
        "status": video.status,
        "prompt": film.prompt,
        "model_name": film.model_name,
        "frames": film.frames,
        "size": film.size,
        "bytes": len(video.image),
    }


async def _chunks(image: bytes, pause_seconds: float) -> AsyncIterator[bytes]:
    for place in range(0, len(image), _CHUNK_BYTES):
        yield image[place : place + _CHUNK_BYTES]
        await asyncio.sleep(pause_seconds)


app = create_app()
