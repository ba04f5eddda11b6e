"""Real work for the demo: films drawn by arithmetic from a prompt, written as animated GIFs."""

import hashlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

__all__ = ["Film", "Seen", "draw", "gif", "look_at"]

FRAME_MILLISECONDS = 40
MOST_PIXELS = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Film:
    """What is to be seen: the same film is drawn the same way each time.

    ``size`` is the edge of the square picture, in pixels. Raises ValueError for less than 8 of
    them, in which frames would look alike, and for a film without a frame.
    """

    prompt: str
    model_name: str
    frames: int = 24
    size: int = 64

    def __post_init__(self) -> None:
        if self.frames < 1 or self.size < 8:
            raise ValueError(f"a film needs a frame of 8 pixels at least; got {self!r}")


@dataclass(frozen=True, slots=True)
class Seen:
    """What an image file turned out to hold."""

    frames: int
    width: int
    height: int


def draw(film: Film, number: int) -> Image.Image:
    """One frame of a film, counted from 0; the last leads back to the first."""
    waves = _dice(film).uniform(1.0, 5.0, size=4)
    time = 2 * np.pi * number / film.frames
    edge = np.linspace(-np.pi, np.pi, film.size)
    x, y = edge[np.newaxis, :], edge[:, np.newaxis]
    field = (
        np.sin(waves[0] * x + time)
        + np.sin(waves[1] * y - time)
        + np.sin(waves[2] * (x + y) / 2 + time)
        + np.sin(waves[3] * np.hypot(x, y) - 2 * time)
    )
    # 32 of the 256 colours: what is coarser packs to a third.
    picture = Image.fromarray(((field + 4.0) * 31.875).astype(np.uint8) & np.uint8(0xF8))
    picture.putpalette(_palette(film))
    return picture


def gif(film: Film) -> bytes:
    """The whole film as an animated GIF that repeats for ever."""
    first, *others = (draw(film, number) for number in range(film.frames))
    file = BytesIO()
    first.save(
        file,
        format="GIF",
        save_all=True,
        append_images=others,
        duration=FRAME_MILLISECONDS,
        loop=0,
    )
    return file.getvalue()


def look_at(image: bytes) -> Seen:
    """Decode a GIF frame by frame.

    Raises OSError, EOFError or ValueError for what is none, or unpacks to more than is bearable.
    """
    try:
        with Image.open(BytesIO(image), formats=["GIF"]) as opened:
            frames = getattr(opened, "n_frames", 1)
            if frames * opened.width * opened.height > MOST_PIXELS:
                raise ValueError(f"a film may have {MOST_PIXELS} pixels at most in all its frames")
            for number in range(frames):
                opened.seek(number)
                opened.load()
            return Seen(frames, opened.width, opened.height)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error


def _dice(film: Film) -> np.random.Generator:
    """Chance that the prompt and the model decide."""
    words = f"{film.model_name}\0{film.prompt}".encode("utf-8", "surrogatepass")
    return np.random.default_rng(list(hashlib.blake2b(words, digest_size=16).digest()))


def _palette(film: Film) -> bytes:
    """256 colours that run into each other without a seam."""
    phases = _dice(film).uniform(0.0, 2 * np.pi, size=3)
    circle = np.linspace(0.0, 2 * np.pi, 256, endpoint=False)[:, np.newaxis]
    return ((np.sin(circle + phases) + 1.0) * 127.5).astype(np.uint8).tobytes()
