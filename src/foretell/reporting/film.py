"""Episodes beside each other as an animated GIF: what was asked for above each, and what has been earned so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from foretell.core.decimals import shown
from foretell.core.files import atomic_path

HEIGHT = 256
"""Pixels of a frame at most; larger ones are made smaller."""
LONGEST = 240
"""Frames of a film at most: of longer episodes every second is shown, or every third, at the same speed."""
LETTERS, LINE, GAP = 13, 18, 8
"""Pixels: of letters, of a line of them, and between films."""
INK, PAPER = "#222222", "#FFFFFF"
LINGER_SECONDS = 1.5
"""For which the last frame stays."""


@dataclass(kw_only=True, eq=False)
class Reel:
    """One episode: a frame before each action and one at its end, and the return up to there."""

    caption: str
    frames: list[UInt8[np.ndarray, "height width 3"]]
    earned: list[float]

    def add(self, frame: UInt8[np.ndarray, "height width 3"], earned: float) -> None:
        """Keep a frame, no larger than it is shown."""
        self.frames.append(_smaller(frame))
        self.earned.append(earned)


def write_film(path: Path, reels: Sequence[Reel], *, frames_per_second: float) -> None:
    """Write a film of several episodes to `path`, a name that ends in .gif; each stays at its last frame when it ends.

    Raises `ResourceError` where the file cannot be written.
    """
    length = max(len(reel.frames) for reel in reels)
    step = -(-length // LONGEST)
    places = sorted({*range(0, length, step), length - 1})
    milliseconds = [round(1000 * step / frames_per_second)] * (len(places) - 1) + [round(1000 * LINGER_SECONDS)]
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), LETTERS)
    pictures = _pictures(reels, places, font)
    with atomic_path(path) as temporary:
        next(pictures).save(
            temporary, format="GIF", save_all=True, append_images=pictures, duration=milliseconds, loop=0
        )  # fmt: skip


def _pictures(reels: Sequence[Reel], places: Sequence[int], font: ImageFont.FreeTypeFont) -> Iterator[Image.Image]:
    """Yield the whole picture at each of these frames, all of one size."""
    lines = [[reel.caption, *(f"earned {shown(earned)}" for earned in reel.earned)] for reel in reels]
    widths = [
        max(reel.frames[0].shape[1], *(int(font.getlength(line)) + 1 for line in said))
        for reel, said in zip(reels, lines, strict=True)
    ]
    size = sum(widths) + GAP * (len(reels) + 1), 2 * LINE + 2 * GAP + max(reel.frames[0].shape[0] for reel in reels)
    for place in places:
        picture = Image.new("RGB", size, PAPER)
        draw, left = ImageDraw.Draw(picture), GAP
        for reel, said, width in zip(reels, lines, widths, strict=True):
            now = min(place, len(reel.frames) - 1)
            draw.text((left, GAP // 2), f"{said[0]}\n{said[1 + now]}", INK, font, spacing=LINE - LETTERS)
            picture.paste(Image.fromarray(reel.frames[now]), (left, GAP + 2 * LINE))
            left += width + GAP
        yield picture


def _smaller(frame: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    height, width = frame.shape[:2]
    if height <= HEIGHT:
        return frame.copy()
    return np.asarray(
        Image.fromarray(frame).resize((max(1, round(width * HEIGHT / height)), HEIGHT), Image.Resampling.BOX)
    )
