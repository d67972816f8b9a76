"""Label maps with smooth borders: the argmax of bilinearly upsampled scores, without upsampling all of them.

Bilinear interpolation takes means with weights that are not negative. So where one label has at least the
score of another at all four corners of a block of pixels, it has so at every pixel inside, and the other can
be left out; a label that wins all four corners fills the block. Blocks in which several labels remain are
quartered, and only small blocks on borders are looked at pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

LEAF = 8
"""Blocks are quartered until they are less than twice as many pixels wide."""
STRIP_ELEMENTS = 2**27
"""Scores that a GPU upsamples at a time."""
CHUNK_PIXELS = 2**15
"""Pixels of blocks that are labelled at a time: what stays in a core's cache."""
_REFEREES = np.concatenate((np.full((1, 4), 0.25), np.eye(4))).astype(np.float32)
"""Weights of a block's corners: its middle, then each corner."""


def smooth_labels(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the label with the highest bilinearly upsampled score (half-pixel centres) at each pixel.

    Exact up to rounding of the scores, ties to the lowest label: on the CPU with far fewer operations than
    upsampling every score, on a GPU by doing just that in strips.

    Args:
        scores: (h, w, k) float; size: (H, W) of the output.

    Returns:
        (H, W) int64.
    """
    import torch

    if scores.device.type == "cpu":
        return torch.from_numpy(smooth_label_map(scores.float().numpy(), size))
    return _strips(scores, size)


def smooth_label_map(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return `smooth_labels` of scores in an array: (h, w, k) float32 -> (H, W) int64."""
    return _quartered_labels(np.asarray(scores, dtype=np.float32), size).astype(np.int64)


def _strips(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample every score, some rows at a time."""
    import torch
    import torch.nn.functional as F

    wide = F.interpolate(scores.permute(2, 0, 1)[None], size=(scores.shape[0], size[1]), mode="bilinear")
    padded = F.pad(wide, (0, 0, 1, 1), mode="replicate")[0]
    rows, weights = (
        torch.from_numpy(part).to(scores.device) for part in _positions(scores.shape[0], size[0])
    )
    count = max(1, STRIP_ELEMENTS // (padded.shape[0] * size[1]))
    strips = [
        torch.lerp(padded[:, row], padded[:, row + 1], weight[:, None].to(padded.dtype)).argmax(dim=0)
        for row, weight in zip(rows.split(count), weights.split(count), strict=True)
    ]
    return torch.cat(strips)


def _positions(cells: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel centre the index of its square of (padded) cell centres, and the fraction inside it."""
    position = (np.arange(pixels) + 0.5) * cells / pixels + 0.5
    index = np.clip(np.floor(position).astype(np.int64), 0, cells)
    return index, position - index


class _Axis(NamedTuple):
    """How the pixels of one axis fall into leaf blocks.

    Attributes:
        block: (pixels,) the block of each pixel.
        pixel, weight: (blocks, n) the pixels of each block and their fractions inside it; short blocks repeat
            their last pixel.
        used: (blocks,) bool, whether any pixel lies inside.
    """

    block: np.ndarray
    pixel: np.ndarray
    weight: np.ndarray
    used: np.ndarray


def _axis(cells: int, pixels: int, parts: int) -> _Axis:
    square, fraction = _positions(cells, pixels)
    inner = np.minimum((fraction * parts).astype(np.int64), parts - 1)
    block, weight = square * parts + inner, fraction * parts - inner
    counts = np.bincount(block, minlength=(cells + 1) * parts)
    ends = np.cumsum(counts)
    steps = np.minimum(np.arange(counts.max())[None], np.maximum(counts, 1)[:, None] - 1)
    pixel = np.minimum((ends - counts)[:, None] + steps, pixels - 1)
    return _Axis(block, pixel, weight[pixel].astype(np.float32), counts > 0)


@dataclass(frozen=True)
class _Blocks:
    """Blocks of the image and the labels that may win inside them.

    Attributes:
        row, column: (B,) place of each block in the grid of its level.
        start: (B,) its first candidate; its candidates follow each other by rising label.
        label: (P,) int64, label of each candidate.
        values: (4, P) float32, its scores at the upper left, upper right, lower left and lower right corner.
    """

    row: np.ndarray
    column: np.ndarray
    start: np.ndarray
    label: np.ndarray
    values: np.ndarray

    @property
    def count(self) -> np.ndarray:
        """(B,) candidates of each block."""
        return np.diff(self.start, append=len(self.label))

    @property
    def block(self) -> np.ndarray:
        """(P,) block of each candidate."""
        return np.repeat(np.arange(len(self.start)), self.count)

    def only(self, blocks: np.ndarray) -> _Blocks:
        """Keep some blocks ((B,) bool)."""
        chosen = np.flatnonzero(np.repeat(blocks, self.count))
        count = self.count[blocks]
        start = np.cumsum(count) - count
        return _Blocks(
            self.row[blocks], self.column[blocks], start, self.label[chosen], self.values[:, chosen]
        )

    def quarter(self) -> _Blocks:
        """Cut each block into four; the scores at the new corners are means of the old."""
        upper_left, upper_right, lower_left, lower_right = self.values
        top, bottom = (upper_left + upper_right) / 2, (lower_left + lower_right) / 2
        left, right = (upper_left + lower_left) / 2, (upper_right + lower_right) / 2
        middle = (top + bottom) / 2
        corners = (
            (upper_left, top, left, middle),
            (top, upper_right, middle, right),
            (left, middle, lower_left, bottom),
            (middle, right, bottom, lower_right),
        )
        values = np.concatenate([np.stack(four) for four in corners], axis=1)
        start = (np.arange(4)[:, None] * len(self.label) + self.start).ravel()
        row = np.concatenate((2 * self.row, 2 * self.row, 2 * self.row + 1, 2 * self.row + 1))
        column = np.tile(np.concatenate((2 * self.column, 2 * self.column + 1)), 2)
        return _Blocks(row, column, start, np.tile(self.label, 4), values)


def _squares(scores: np.ndarray) -> _Blocks:
    """Return the squares between neighbouring cell centres with their candidates.

    A label that stays below another one's lowest corner with its highest cannot win.
    """
    height, width, labels = scores.shape
    # One more square on each side, its corners repeated: pixels beyond the outer cell centres take the
    # border's value. Row by row: what a row needs stays in a core's cache.
    low, high = np.empty((2, width + 1, labels), dtype=np.float32)
    found = []
    for square in range(height + 1):
        upper, lower = scores[max(square - 1, 0)], scores[min(square, height - 1)]
        for reduce, out in ((np.minimum, low), (np.maximum, high)):
            ends = reduce(upper, lower)
            out[0], out[-1] = ends[0], ends[-1]
            reduce(ends[:-1], ends[1:], out=out[1:-1])
        found.append(np.flatnonzero(high >= low.max(axis=1, keepdims=True)) + square * low.size)
    place, label = np.divmod(np.concatenate(found), labels)
    row, column = np.divmod(place, width + 1)
    rows = [np.clip(row + step, 0, height - 1) * width for step in (-1, 0)]
    columns = [np.clip(column + step, 0, width - 1) for step in (-1, 0)]
    flat = scores.reshape(-1)
    values = np.stack([flat.take((down + right) * labels + label) for down in rows for right in columns])
    start = np.flatnonzero(np.diff(place, prepend=-1))
    return _Blocks(row[start], column[start], start, label, values)


def _prune(blocks: _Blocks) -> _Blocks:
    """Drop candidates that some label, best in the middle or at a corner, beats at all four corners."""
    block, start, label, values = blocks.block, blocks.start, blocks.label, blocks.values
    # The middle first: it leaves little for the corners to do.
    for weights in _REFEREES:
        score = weights @ values
        best = np.flatnonzero(score == np.maximum.reduceat(score, start).take(block))
        winner = best[np.diff(block[best], prepend=-1) > 0].take(block)
        lead = values[0].take(winner) - values[0]
        for corner in values[1:]:
            np.minimum(lead, corner.take(winner) - corner, out=lead)
        # On a tie the lower label wins, as in argmax.
        kept = np.flatnonzero((lead < 0) | ((lead == 0) & (label <= label.take(winner))))
        block, label, values = block[kept], label[kept], values.take(kept, axis=1)
        start = np.flatnonzero(np.diff(block, prepend=-1))
    return _Blocks(blocks.row, blocks.column, start, label, values)


def _quartered_labels(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the labels of `smooth_labels`: (h, w, k) float32 -> (H, W) uint16 (int64 for k > 65535)."""
    height, width = scores.shape[:2]
    levels = max(0, int(np.log2(max(1.0, min(size[0] / height, size[1] / width) / LEAF))))
    down, across = _axis(height, size[0], 2**levels), _axis(width, size[1], 2**levels)
    grid = np.zeros((height + 1, width + 1), dtype=np.uint16 if scores.shape[2] <= 65536 else np.int64)
    blocks = _squares(scores)
    for level in range(levels + 1):
        blocks = _prune(blocks)
        grid[blocks.row, blocks.column] = blocks.label[blocks.start]
        blocks = blocks.only(blocks.count > 1)
        if level < levels:
            blocks, grid = blocks.quarter(), np.repeat(np.repeat(grid, 2, axis=0), 2, axis=1)
    labels = np.ascontiguousarray(grid.take(down.block, axis=0).take(across.block, axis=1))
    _paint(labels, blocks.only(down.used[blocks.row] & across.used[blocks.column]), down, across)
    return labels


class _Canvas:
    """Arrays that each part of the blocks uses again: new ones would cost more than what is done in them.

    Attributes:
        best, value: (h, w, n) float32, best score so far at each pixel of a block, and that of a candidate.
        better: (h, w, n) bool.
        winner, change: (h, w, n) labels.
        place: (h, w, n) int64, where a pixel lies in the image.
    """

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self.best, self.value = np.empty((2, *shape), dtype=np.float32)
        self.better, self.place = np.empty(shape, dtype=bool), np.empty(shape, dtype=np.int64)
        self.winner, self.change = np.empty((2, *shape), dtype=dtype)


def _paint(labels: np.ndarray, blocks: _Blocks, down: _Axis, across: _Axis) -> None:
    """Label the pixels of blocks with several candidates one by one; `labels`: (H, W), contiguous."""
    flat, height, width = labels.reshape(-1), down.pixel.shape[1], across.pixel.shape[1]
    most = max(1, CHUNK_PIXELS // (height * width))
    # Blocks come last: loops over them are long, those over the few pixels of a block are not.
    rows, columns = down.pixel.T * labels.shape[1], across.pixel.T
    order, values = np.argsort(-blocks.count, kind="stable"), np.ascontiguousarray(blocks.values.T)
    canvas = _Canvas((height, width, min(most, len(order))), labels.dtype)
    for first in range(0, len(order), most):
        chosen = order[first : first + most]
        row, column = blocks.row[chosen], blocks.column[chosen]
        weights = down.weight.T[:, None, row], across.weight.T[None][:, :, column]
        _choose_winners(blocks, values, chosen, *weights, canvas)
        part = np.s_[..., : len(chosen)]
        place = np.add(rows[:, None, row], columns[:, column], out=canvas.place[part])
        flat[place] = canvas.winner[part]


def _choose_winners(
    blocks: _Blocks, values: np.ndarray, chosen: np.ndarray, y: np.ndarray, x: np.ndarray, canvas: _Canvas
) -> None:
    """Write the best label at each pixel of some blocks to `canvas.winner`, the lower one on a tie.

    Scores are those above the block's first candidate, which so needs no arithmetic.

    values: (P, 4) `blocks.values`; chosen: (n,) blocks by falling number of candidates; y, x: (h, 1, n) and
    (1, w, n) fractions.
    """
    start, count, dtype = blocks.start[chosen], blocks.count[chosen], canvas.winner.dtype
    first, up = values.take(start, axis=0), 1 - y
    canvas.winner[..., : len(chosen)] = blocks.label.take(start)
    # Blocks with a candidate of each number come first.
    ends = np.searchsorted(-count, -np.arange(int(count[0]) + 1)).tolist()
    for number in range(1, int(count[0])):
        here, candidate = np.s_[..., : ends[number]], start[: ends[number]] + number
        corners = np.ascontiguousarray((values.take(candidate, axis=0) - first[: ends[number]]).T)
        upper_left, upper_right, lower_left, lower_right = corners
        left = upper_left * up[here] + lower_left * y[here]
        slope = upper_right * up[here] + lower_right * y[here] - left
        score, better = canvas.value[here], canvas.better[here]
        np.multiply(slope, x[here], out=score)
        score += left
        best = canvas.best[here] if number > 1 else np.float32(0)
        np.greater(score, best, out=better)
        # Where it is better: winner += label - winner. Unsigned numbers wrap, a masked copy is slower.
        change, winner = canvas.change[here], canvas.winner[here]
        np.subtract(blocks.label.take(candidate).astype(dtype), winner, out=change)
        change *= better
        winner += change
        if number + 1 < int(count[0]):
            np.maximum(best, score, out=canvas.best[here])
