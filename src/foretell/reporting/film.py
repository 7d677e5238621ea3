"""Episodes beside each other as an animated GIF: what was asked for above each, and what has been earned so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from foretell.core.decimals import shown
from foretell.core.files import atomic_path

HEIGHT = 256
"""Pixels of a frame at most; larger ones are made smaller."""
LONGEST = 250
"""Timesteps of a film that are all shown; of longer ones every second is, or every fourth, at the same speed."""
MOST_A_SECOND = 50
"""Frames a second at most: viewers show those of less than 20 ms slowly. Of faster ones every second is shown."""
LETTERS, LINE, GAP = 13, 18, 8
"""Pixels: of letters, of a line of them, and between films."""
INK, PAPER = "#222222", "#FFFFFF"
HUNDREDTHS = 100
"""Of a second: in these the form says how long a frame is shown."""
LINGER_SECONDS = 1.5
"""For which the last frame stays."""


@dataclass(kw_only=True, eq=False)
class Reel:
    """One episode, by timestep: what it looked like, 0 before the first action, and the return up to there.

    Of a long one it keeps every `every`th timestep, a power of two, and the last that was added.
    """

    caption: str
    frames: dict[int, UInt8[np.ndarray, "height width 3"]] = field(default_factory=dict)
    earned: dict[int, float] = field(default_factory=dict)
    every: int = 1

    @property
    def length(self) -> int:
        """Timesteps of the episode, so far."""
        return max(self.frames)

    def shows(self, timestep: int) -> bool:
        """Say whether a frame is needed of this timestep, where it is not the last."""
        return timestep % self.every == 0

    def add(self, timestep: int, frame: UInt8[np.ndarray, "height width 3"], earned: float) -> None:
        """Keep a frame, no larger than it is shown."""
        if len(self.frames) > LONGEST:
            self.every *= 2
            self.frames = {place: kept for place, kept in self.frames.items() if self.shows(place)}
        self.frames[timestep], self.earned[timestep] = _smaller(frame), earned


def write_film(path: Path, reels: Sequence[Reel], *, frames_per_second: float) -> None:
    """Write a film of several episodes to `path`, a name that ends in .gif; each stays at its last frame when it ends.

    `frames_per_second` are timesteps a second. Raises `ResourceError` where the file cannot be written.
    """
    step = max(reel.every for reel in reels)
    while frames_per_second / step > MOST_A_SECOND:
        step *= 2
    length = max(reel.length for reel in reels)
    places = [*range(0, length, step), length]
    until = np.round(np.arange(len(places)) * step * HUNDREDTHS / frames_per_second)  # the form knows no shorter times
    milliseconds = [*(np.diff(until).astype(int) * 1000 // HUNDREDTHS).tolist(), round(1000 * LINGER_SECONDS)]
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), LETTERS)
    pictures = _pictures(reels, places, font)
    with atomic_path(path) as temporary:
        next(pictures).save(
            temporary, format="GIF", save_all=True, append_images=pictures, duration=milliseconds, loop=0
        )  # fmt: skip


def _pictures(reels: Sequence[Reel], places: Sequence[int], font: ImageFont.FreeTypeFont) -> Iterator[Image.Image]:
    """Yield the whole picture at each of these frames, all of one size."""
    widths = [
        max(
            reel.frames[0].shape[1],
            *(int(font.getlength(line)) + 1 for line in (reel.caption, *map(_said, reel.earned.values()))),
        )
        for reel in reels
    ]
    size = sum(widths) + GAP * (len(reels) + 1), 2 * LINE + 2 * GAP + max(reel.frames[0].shape[0] for reel in reels)
    for place in places:
        picture = Image.new("RGB", size, PAPER)
        draw, left = ImageDraw.Draw(picture), GAP
        for reel, width in zip(reels, widths, strict=True):
            now = min(place, reel.length)
            draw.text((left, GAP // 2), f"{reel.caption}\n{_said(reel.earned[now])}", INK, font, spacing=LINE - LETTERS)
            picture.paste(Image.fromarray(reel.frames[now]), (left, GAP + 2 * LINE))
            left += width + GAP
        yield picture


def _said(earned: float) -> str:
    return f"earned {shown(earned)}"


def _smaller(frame: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    height, width = frame.shape[:2]
    if height <= HEIGHT:
        return frame.copy()
    return np.asarray(
        Image.fromarray(frame).resize((max(1, round(width * HEIGHT / height)), HEIGHT), Image.Resampling.BOX)
    )
