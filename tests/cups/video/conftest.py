"""A little film whose objects are known."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest


class Film:
    """Textured blocks that move over a textured ground; a later block hides an earlier one.

    Args:
        blocks: (top, left, height, width, rows a frame, columns a frame, colour) of each.
    """

    def __init__(self, blocks: list[tuple[float, ...]], size: tuple[int, int] = (96, 160)) -> None:
        self.blocks, self.size = blocks, size
        self.ground = self._texture(99, size, (90, 110, 100))

    @staticmethod
    def _texture(seed: int, size: tuple[int, int], colour: tuple[int, ...]) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(0, 1, (*size, 1)).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
        return np.clip(np.array(colour) + 60 * smooth.reshape(*size, 1), 0, 255).astype(np.uint8)

    def frame(self, time: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (H, W, 3) uint8 and (H, W) object 0 none, 1.. in the order of the blocks."""
        picture, ids = self.ground.copy(), np.zeros(self.size, np.int32)
        for index, (top, left, height, width, down, right, *colour) in enumerate(self.blocks, start=1):
            block = self._texture(index, (int(height), int(width)), tuple(int(c) for c in colour))
            y, x = round(top + down * time), round(left + right * time)
            rows, columns = np.arange(y, y + int(height)), np.arange(x, x + int(width))
            inside = np.ix_((rows >= 0) & (rows < self.size[0]), (columns >= 0) & (columns < self.size[1]))
            place = np.ix_(rows[inside[0].ravel()], columns[inside[1].ravel()])
            picture[place], ids[place] = block[inside], index
        return picture, ids

    def frames(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the first frames."""
        return (self.frame(time) for time in range(count))


@pytest.fixture(scope="session")
def film() -> type[Film]:
    return Film
