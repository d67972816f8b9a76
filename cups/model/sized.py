"""Predict images of any size: at the size of the training images, in tiles where memory is short.

The network's output is small; what fills the memory is its enlargement: 28 channels of a photograph of
3840 x 2160 take 0.9 GB as floats, 100 masks 0.8 GB. Here neither is ever made. The semantic output is
enlarged in bands, and only where neighbouring pixels disagree; a mask is enlarged in its own box when it is
painted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cups.model.inputs import inference_inputs
from cups.model.modeling.meta_arch.merge import (
    Crop,
    Segments,
    agreed_scores,
    best_channel,
    decide_semantic,
    merge_crops,
)
from cups.model.modeling.meta_arch.panoptic_fpn import CustomPanopticFPN, finite_log
from cups.model.tta import PanopticFPNWithTTA
from cups.ops.precision import full_precision
from cups.ops.working_size import TILE_PIXELS, Size, Tile, fitted_size, resize_pixels, tiles_of

BAND_PIXELS = 2**20
"""Pixels of the output that are decided at a time."""
CHUNK_ELEMENTS = 2**23
"""Interpolated logits held at a time (32 MB)."""
BATCH_PIXELS = {"cpu": 640 * 1280, "cuda": 16 * 640 * 1280}
"""Pixels of one forward pass."""
LARGEST_BATCH = 16
SAME_OBJECT = 0.5
"""Two finds of one kind in two tiles are one object if, where both tiles see, their masks' IoU exceeds it."""


@dataclass(frozen=True, eq=False)
class Found:
    """One detection: `mask` (h, w) in 0-1 spans `box` (left, top, right, bottom) in the image as seen."""

    box: tuple[float, float, float, float]
    mask: Tensor
    score: float
    thing: int


class _Raw(NamedTuple):
    """The network's output for one tile: logits (S+1, h', w'), of which padding may be a part, and finds."""

    logits: Tensor
    found: list[Found]


class SizedInference:
    """A panoptic network for images of any size.

    Args:
        model: `CustomPanopticFPN`, or test-time augmentation or the dense CRF around one; evaluation mode.
        working_size: (H, W) of the training images; None predicts each image at its own size.
        tile_pixels: larger images are cut into tiles; never below the working size.
    """

    def __init__(self, model: nn.Module, working_size: Size | None, tile_pixels: int = TILE_PIXELS) -> None:
        self.model: Any = model
        around = list(_layers(model))
        self.network: CustomPanopticFPN = around[-1]
        # Test-time augmentation has a threshold of its own.
        self.score_threshold: float = max(getattr(layer, "score_threshold", 0.0) for layer in around)
        self.working_size = working_size
        working_pixels = working_size[0] * working_size[1] if working_size else 0
        # Narrow images have as many pixels as the training images, up to rounding.
        self.tile_pixels = max(tile_pixels, round(1.02 * working_pixels))

    def seen_size(self, size: Size) -> Size:
        """Return the (H, W) at which the network sees an image of `size`."""
        return fitted_size(size, self.working_size)

    def batch_size(self, size: Size) -> int:
        """Return how many images of `size` fit into one forward pass."""
        height, width = self.seen_size(size)
        limit = BATCH_PIXELS["cuda" if self.network.device.type == "cuda" else "cpu"]
        return min(LARGEST_BATCH, max(1, limit // (height * width)))

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> list[tuple[Tensor, Segments]]:
        """Predict (H, W, 3) uint8 RGB images of one size.

        Returns:
            Per image (H, W) int32 segment numbers, 0 void, and what each is; see `merge_panoptic`.
        """
        size = (images[0].shape[0], images[0].shape[1])
        seen = self.seen_size(size)
        tiles = tiles_of(seen, self.tile_pixels)
        small = [resize_pixels(image, seen) for image in images]
        semantics = [torch.zeros(size, dtype=torch.int16, device=self.network.device) for _ in images]
        found: list[list[list[Found]]] = [[] for _ in images]
        for tile in tiles:
            for number, raw in enumerate(self._raw_outputs([_cut(image, tile) for image in small])):
                rows, columns = _coordinates(tile, seen, size)
                decided = self._decide(raw.logits, (tile.height, tile.width), rows, columns)
                semantics[number][rows.start : rows.stop, columns.start : columns.stop] = decided
                found[number].append(raw.found)
        return [
            self._merge(join_tiles(tiles, finds), semantic, seen)
            for finds, semantic in zip(found, semantics, strict=True)
        ]

    def _raw_outputs(self, tiles: Sequence[np.ndarray]) -> Iterator[_Raw]:
        inputs = self.network.with_regions(inference_inputs([_as_tensor(tile) for tile in tiles]))
        if isinstance(self.model, CustomPanopticFPN):
            detections, logits = self.model.inference(inputs, do_postprocess=False)
            for found, scores, item in zip(detections, logits, inputs, strict=True):
                inside = scores[:, : item["height"], : item["width"]]
                logits = self.network.follow_image_logits(inside, item)
                yield _Raw(logits, self._agreed(_soft_finds(found), logits))
            return
        for output in self.model(inputs):
            logits = output["sem_seg"].float()
            if isinstance(self.model, PanopticFPNWithTTA):  # probabilities
                logits = finite_log(logits)
            yield _Raw(logits, self._agreed(_hard_finds(output["instances"]), logits))

    def _agreed(self, found: list[Found], logits: Tensor) -> list[Found]:
        """Return the finds of a tile with the scores that the network's own merge would give them."""
        if not found or self.network.combine_semantic_weight == 0:
            return found
        thing_probability = logits.float().softmax(dim=0)[0]
        size = (thing_probability.shape[0], thing_probability.shape[1])
        scores = agreed_scores(
            [find.score for find in found],
            lambda index: paste(found[index], (1.0, 1.0), size),
            thing_probability,
            self.network.combine_semantic_weight,
        )
        return [replace(find, score=score) for find, score in zip(found, scores, strict=True)]

    def _decide(self, logits: Tensor, size: Size, rows: _Axis, columns: _Axis) -> Tensor:
        def decide(values: Tensor) -> Tensor:
            if not self.network.combine_things_first:
                return best_channel(values)
            return decide_semantic(values.float().softmax(dim=0), things_first=True)

        return enlarge_decision(logits, size, rows.places, columns.places, decide)

    def _merge(self, found: list[Found], semantic: Tensor, seen: Size) -> tuple[Tensor, Segments]:
        height, width = semantic.shape
        scale = (height / seen[0], width / seen[1])
        return merge_crops(
            [find.score for find in found],
            [find.thing for find in found],
            lambda index: paste(found[index], scale, (height, width)),
            semantic,
            **self.network.merge_rules((height, width), self.score_threshold),
        )


def _layers(model: Any) -> Iterator[Any]:
    """Yield test-time augmentation and the dense CRF around a network, and the network itself last."""
    while not isinstance(model, CustomPanopticFPN):
        yield model
        model = model.model
    yield model


def _cut(image: np.ndarray, tile: Tile) -> np.ndarray:
    return image[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]


def _as_tensor(image: np.ndarray) -> Tensor:
    """Return (3, H, W) float in 0-1; `cups.data` does it too, but leads to the reader of ground truth."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float().div_(255.0)


class _Axis(NamedTuple):
    """Output pixels `start` to `stop` along one axis, and where each lies in the tile (pixel centres)."""

    start: int
    stop: int
    places: Tensor


def _coordinates(tile: Tile, seen: Size, size: Size) -> tuple[_Axis, _Axis]:
    """Return the rows and the columns of the output for which a tile decides."""
    top, left, bottom, right = tile.core

    def axis(first: int, last: int, offset: int, side: int, source: int, target: int) -> _Axis:
        start, stop = first * target // source, last * target // source
        places = (torch.arange(start, stop, dtype=torch.float64) + 0.5) * (source / target) - 0.5 - offset
        return _Axis(start, stop, places.clamp(0, side - 1))

    rows = axis(top, bottom, tile.top, tile.height, seen[0], size[0])
    return rows, axis(left, right, tile.left, tile.width, seen[1], size[1])


def enlarge_decision(
    logits: Tensor, size: Size, rows: Tensor, columns: Tensor, decide: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return `decide` of bilinearly interpolated logits, without making them all.

    Between four neighbours that agree, the interpolated values agree too: the mean of vectors whose largest
    entry is the same one has its largest entry there. Only where neighbours differ is anything interpolated.

    Args:
        logits: (C, h', w'), of which the first `size` are the image and the rest padding.
        rows, columns: (H,) and (W,) places of the output's pixels, in 0..h-1 and 0..w-1.
        decide: (C, ...) -> (...) int64.

    Returns:
        (H, W) int16.
    """
    height, width = size
    band = max(1, CHUNK_ELEMENTS // (logits.shape[0] * width))
    bands = [logits[:, first : min(first + band, height), :width] for first in range(0, height, band)]
    decided = torch.cat([decide(part).to(torch.int16) for part in bands])
    result = torch.empty((len(rows), len(columns)), dtype=torch.int16, device=logits.device)
    left, right, across = _neighbours(columns, width, logits.device)
    step = max(1, BAND_PIXELS // max(1, len(columns)))
    for first in range(0, len(rows), step):
        top, bottom, down = _neighbours(rows[first : first + step], height, logits.device)
        upper, lower = decided[top], decided[bottom]
        window = upper[:, left]
        same = (window == upper[:, right]) & (window == lower[:, left]) & (window == lower[:, right])
        for y, x in _chunks(~same, logits.shape[0]):
            corners = (top[y], bottom[y], left[x], right[x])
            window[y, x] = decide(_interpolate(logits, corners, down[y], across[x])).to(torch.int16)
        result[first : first + step] = window
    return result


def _neighbours(places: Tensor, length: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels before and behind each place, and the weight of the latter."""
    before = places.floor().long()
    weight = (places - before).float()
    return before.to(device), (before + 1).clamp(max=length - 1).to(device), weight.to(device)


def _chunks(mask: Tensor, channels: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows and columns of the pixels of a mask, a few at a time."""
    rows, columns = mask.nonzero(as_tuple=True)
    step = max(1, CHUNK_ELEMENTS // channels)
    for first in range(0, len(rows), step):
        yield rows[first : first + step], columns[first : first + step]


def _interpolate(
    logits: Tensor, corners: tuple[Tensor, Tensor, Tensor, Tensor], down: Tensor, across: Tensor
) -> Tensor:
    """Return (C, n) logits between four pixels each."""
    top, bottom, left, right = corners
    upper = torch.lerp(logits[:, top, left], logits[:, top, right], across)
    return torch.lerp(upper, torch.lerp(logits[:, bottom, left], logits[:, bottom, right], across), down)


def _soft_finds(instances: Any) -> list[Found]:
    """Return detections whose masks (N, 1, M, M) are the network's own."""
    boxes, masks = instances.pred_boxes.tensor.tolist(), instances.pred_masks[:, 0]
    finds = zip(boxes, masks, instances.scores.tolist(), instances.pred_classes.tolist(), strict=True)
    return [Found(tuple(box), mask, score, thing) for box, mask, score, thing in finds if _has_area(box)]


def _hard_finds(instances: Any) -> list[Found]:
    """Return detections whose masks (N, H, W) bool are cut out already."""
    finds = zip(instances.pred_masks, instances.scores.tolist(), instances.pred_classes.tolist(), strict=True)
    return [_find_of(Crop(0, 0, mask), score, thing) for mask, score, thing in finds if bool(mask.any())]


def _find_of(crop: Crop, score: float, thing: int) -> Found:
    """Return a find whose box fits its mask, which is not empty."""
    rows, columns = (crop.mask.any(dim=axis).nonzero().flatten().tolist() for axis in (1, 0))
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    box = (float(crop.left + left), float(crop.top + top), float(crop.left + right), float(crop.top + bottom))
    return Found(box, crop.mask[top:bottom, left:right].float(), score, thing)


def _has_area(box: Sequence[float]) -> bool:
    return box[2] > box[0] and box[3] > box[1]


def paste(find: Found, scale: tuple[float, float], size: Size) -> Crop:
    """Cut a mask out at the size of the output: bilinear, 0 outside its box, true from 0.5 on.

    Args:
        scale: of rows and of columns, from what the network sees to the output.
        size: (H, W) of the output.
    """
    left, top, right, bottom = find.box
    first_row, rows = _samples(top * scale[0], bottom * scale[0], find.mask.shape[0], size[0])
    first_column, columns = _samples(left * scale[1], right * scale[1], find.mask.shape[1], size[1])
    device = find.mask.device
    with full_precision(device):
        values = rows.to(device) @ find.mask.float() @ columns.to(device).T
    return Crop(first_row, first_column, values >= 0.5)


def _samples(low: float, high: float, count: int, length: int) -> tuple[int, Tensor]:
    """Return the first pixel of a box side, and (pixels, count) weights of the mask's entries for each."""
    first, last = max(0, int(low) - 1), min(length, int(high) + 2)
    centres = torch.arange(first, max(first, last), dtype=torch.float32) + 0.5
    places = (centres - low) / (high - low) * count - 0.5
    return first, (1 - (places[:, None] - torch.arange(count)).abs()).clamp(min=0)


def join_tiles(tiles: Sequence[Tile], found: Sequence[list[Found]]) -> list[Found]:
    """Move the finds of each tile to their place in the image; an object that two tiles see becomes one.

    Finds of one kind in two tiles are compared where both tiles see, see `SAME_OBJECT`.
    """
    if len(tiles) == 1:
        return found[0]
    kept: list[tuple[Found, set[int]]] = []
    pairs = [(find, index) for index, finds in enumerate(found) for find in finds]
    for find, index in sorted(pairs, key=lambda pair: -pair[0].score):
        moved = _moved(find, tiles[index])
        if moved is None:
            continue
        for position, (other, seen_by) in enumerate(kept):
            if index not in seen_by and _same(moved, index, other, seen_by, tiles):
                kept[position] = (_union(other, moved), seen_by | {index})
                break
        else:
            kept.append((moved, {index}))
    return [find for find, _ in kept]


def _moved(find: Found, tile: Tile) -> Found | None:
    """Return a find of a tile, its mask as pixels of the image; None if it has no pixel."""
    crop = paste(find, (1.0, 1.0), (tile.height, tile.width))
    if not bool(crop.mask.any()):
        return None
    return _find_of(Crop(crop.top + tile.top, crop.left + tile.left, crop.mask), find.score, find.thing)


def _same(find: Found, index: int, other: Found, seen_by: set[int], tiles: Sequence[Tile]) -> bool:
    if find.thing != other.thing:
        return False
    for neighbour in seen_by:
        both = _common(_sides(tiles[index]), _sides(tiles[neighbour]))
        if not (_has_area(both) and _has_area(_common(_common(find.box, other.box), both))):
            continue
        first, second = (_window(item, both) for item in (find, other))
        if int((first & second).sum()) > SAME_OBJECT * int((first | second).sum()):
            return True
    return False


def _sides(tile: Tile) -> tuple[int, int, int, int]:
    return tile.left, tile.top, tile.left + tile.width, tile.top + tile.height


def _common(first: Sequence[float], second: Sequence[float]) -> tuple[int, int, int, int]:
    """Return the box that two boxes share; without area if there is none."""
    left, top = (int(max(first[side], second[side])) for side in (0, 1))
    right, bottom = (int(min(first[side], second[side])) for side in (2, 3))
    return left, top, right, bottom


def _window(find: Found, box: tuple[int, int, int, int]) -> Tensor:
    """Return the pixels of a find inside a box of the image, (h, w) bool."""
    left, top, right, bottom = box
    result = torch.zeros((bottom - top, right - left), dtype=torch.bool, device=find.mask.device)
    x0, y0, x1, y1 = (int(value) for value in find.box)
    a, b, c, d = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
    if c > a and d > b:
        result[b - top : d - top, a - left : c - left] = find.mask[b - y0 : d - y0, a - x0 : c - x0] > 0.5
    return result


def _union(first: Found, second: Found) -> Found:
    """Return one find of two; the better score counts."""
    pairs = zip(first.box, second.box, strict=True)
    low, high = zip(*((int(min(pair)), int(max(pair))) for pair in pairs), strict=True)
    box = (low[0], low[1], high[2], high[3])
    mask = _window(first, box) | _window(second, box)
    return _find_of(Crop(box[1], box[0], mask), max(first.score, second.score), first.thing)
