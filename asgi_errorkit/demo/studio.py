"""The studio of the demo: keeps the videos that were ordered, and renders them in a thread."""

import asyncio
import itertools
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from asgi_errorkit.demo.trouble import load_weights
from asgi_errorkit.demo.video import Film, gif

__all__ = ["MODELS", "Studio", "Video"]

MODELS = ("stable-diffusion", "tiny-diffusion", "damaged-diffusion", "premium-diffusion")
"""The third has weights that cannot be loaded, the last has no machine free."""

_SAMPLE = "sample_video"


@dataclass(slots=True)
class Video:
    """A video that was ordered; written by the one task that renders it."""

    video_id: str
    film: Film
    status: Literal["queued", "rendering", "completed", "failed"] = "queued"
    image: bytes = b""


class Studio:
    """Renders videos and keeps the latest ``max_videos``, and the sample that is always there.

    Belongs to one event loop.
    """

    def __init__(self, *, max_videos: int = 200) -> None:
        self.ordered = 0
        self.completed = 0
        self.failed = 0
        self._max_videos = max_videos
        self._numbers = itertools.count(1)
        self._videos: OrderedDict[str, Video] = OrderedDict()
        self._sample = Video(_SAMPLE, Film("northern lights over a frozen lake", MODELS[0], 24, 96))
        self._sample_lock = asyncio.Lock()

    def order(self, film: Film) -> Video:
        """Take an order; somebody has to `render` it."""
        video = Video(f"video_{next(self._numbers)}", film)
        self.ordered += 1
        self._videos[video.video_id] = video
        if len(self._videos) > self._max_videos:
            self._videos.popitem(last=False)
        return video

    async def render(self, video: Video) -> None:
        """Render a video that was ordered. Raises ModelLoadError when its model cannot be had."""
        video.status = "rendering"
        try:
            await asyncio.to_thread(load_weights, video.film.model_name)
            video.image = await asyncio.to_thread(gif, video.film)
        except BaseException:
            video.status = "failed"
            self.failed += 1
            raise
        video.status = "completed"
        self.completed += 1

    async def find(self, video_id: str) -> Video | None:
        """A video by its id, None for an unknown one; the sample is rendered when first asked for."""
        if video_id != _SAMPLE:
            return self._videos.get(video_id)
        async with self._sample_lock:
            if not self._sample.image:
                self._sample.image = await asyncio.to_thread(gif, self._sample.film)
                self._sample.status = "completed"
        return self._sample
