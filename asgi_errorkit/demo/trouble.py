"""What goes wrong in the demo: every failure happens, and none is merely announced."""

import asyncio
import importlib
import pickle
import socket
import sqlite3
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import closing
from io import BytesIO

import numpy as np
from fastapi import HTTPException
from pydantic import BaseModel, Field, ValidationError

from asgi_errorkit import ErrorType, PublicError

__all__ = [
    "TROUBLES",
    "FrameCacheError",
    "ModelLoadError",
    "damaged_stream",
    "load_weights",
    "pack_tightly",
]

_DAMAGED_MODEL = "damaged-diffusion"
_PACKING_SECONDS = 0.6


class ModelLoadError(Exception):
    """The weights of a model cannot be loaded."""

    def __init__(self, model_name: str, reason: str) -> None:
        super().__init__(f"{model_name}: {reason}")
        self.model_name = model_name


class FrameCacheError(Exception):
    """A rendered frame cannot be read back from the cache."""


class _Metadata(BaseModel):
    frames: int = Field(ge=1)
    frames_per_second: float = Field(gt=0)


def load_weights(model_name: str) -> np.ndarray:
    """The weights of a model. Raises ModelLoadError when the file is cut off."""
    file = BytesIO()
    np.save(file, np.eye(16))
    stored = file.getvalue()
    if model_name == _DAMAGED_MODEL:
        stored = stored[:-40]
    try:
        weights: np.ndarray = np.load(BytesIO(stored))
    except ValueError as error:
        raise ModelLoadError(model_name, "Model loading failed") from error
    return weights


async def _invalid_metadata() -> None:
    try:
        _Metadata.model_validate({"frames": 24, "frames_per_second": -25})
    except ValidationError as error:
        raise PublicError(
            "This video's description is not valid: a frame rate must be more than 0.",
            error_type=ErrorType.VALIDATION,
            context={"video_id": "error_video", "field": "frames_per_second"},
        ) from error


async def _too_large() -> None:
    # Four pebibytes: more than the address space holds, so it is refused and nothing is touched.
    np.empty((1_000_000, 65_536, 65_536), dtype=np.uint8)


async def _missing_table() -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("SELECT title FROM videos WHERE id = ?", ("database_video",))


async def _unloadable_model() -> None:
    await asyncio.to_thread(load_weights, _DAMAGED_MODEL)


async def _damaged_cache() -> None:
    stored = pickle.dumps(bytes(1024))[:100]
    try:
        pickle.loads(stored)  # noqa: S301  made by the line above
    except pickle.UnpicklingError as error:
        raise FrameCacheError("frame 7 cannot be read back") from error


async def _no_free_renderer() -> None:
    async with asyncio.timeout(0.05):
        await asyncio.Semaphore(0).acquire()


async def _storage_is_down() -> None:
    with socket.socket() as bound:  # its port is taken, and nobody listens there
        bound.bind(("127.0.0.1", 0))
        await asyncio.open_connection(*bound.getsockname())


async def _missing_encoder() -> None:
    importlib.import_module("asgi_errorkit_demo_av1_encoder")


async def _a_mere_bug() -> None:
    frames: list[int] = []
    _ = sum(frames) / len(frames)


async def _not_signed_in() -> None:
    raise HTTPException(401, "Sign in to see this video.", {"WWW-Authenticate": "Bearer"})


async def _not_yours() -> None:
    raise HTTPException(403, "This video belongs to somebody else.")


TROUBLES: Mapping[str, Callable[[], Awaitable[None]]] = {
    "error_video": _invalid_metadata,
    "memory_video": _too_large,
    "database_video": _missing_table,
    "model_video": _unloadable_model,
    "cache_video": _damaged_cache,
    "timeout_video": _no_free_renderer,
    "storage_video": _storage_is_down,
    "encoder_video": _missing_encoder,
    "buggy_video": _a_mere_bug,
    "private_video": _not_signed_in,
    "foreign_video": _not_yours,
}
"""What happens to whoever asks for the video of that id."""


async def damaged_stream(image: bytes, *, piece_bytes: int = 2048) -> AsyncIterator[bytes]:
    """Unpacks a stored video while it is sent, and comes upon a damaged piece half-way."""
    stored = [
        bytearray(zlib.compress(image[place : place + piece_bytes]))
        for place in range(0, len(image), piece_bytes)
    ]
    stored[len(stored) // 2][-1] ^= 0xFF
    for piece in stored:
        yield zlib.decompress(piece)


def pack_tightly(image: bytes) -> bytes:
    """Packs a video over and over, for more than half a second: whoever calls it waits so long."""
    until = time.monotonic() + _PACKING_SECONDS
    packed = image
    while time.monotonic() < until:
        packed = zlib.compress(image * 20, level=9)
    return packed
