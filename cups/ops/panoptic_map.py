"""A panoptic map: the segment of each pixel, and a table that says what the segments are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cups.ops.runs import changes, first_pixels, lengths

ID_LIMIT = 2**31
"""Categories and instances are below it."""


@dataclass(frozen=True, eq=False)
class PanopticMap:
    """A panoptic segmentation of one image: small numbers for the pixels, a short table for their meaning.

    Whatever changes categories (a matching, another void) changes the table and leaves the pixels alone. A
    row without pixels says nothing; two rows with one category and instance are one segment.

    Attributes:
        ids: (H, W) uint8, uint16 or int32, row of each pixel in the table.
        category: (S,) int64 class or pseudo-class of each row; void is one of its values.
        instance: (S,) int64 object of each row, distinct within the image; 0 is none.
        starts: (R,) int64, rising, first pixels (row by row) of runs in which `ids` stay the same, where
            these are known: who counts pixels need not look for them.

    Raises:
        ValueError: for other shapes, or ids beyond the table.

    Example:
        >>> import numpy as np
        >>> from cups import PanopticMap
        >>> road_and_car = PanopticMap(np.array([[0, 0, 1]], np.uint8), np.array([7, 26]), np.array([0, 1]))
        >>> road_and_car.categories.tolist()
        [[7, 7, 26]]
        >>> PanopticMap.from_pairs(road_and_car.pairs).instance.tolist()
        [0, 1]
    """

    ids: np.ndarray
    category: np.ndarray
    instance: np.ndarray
    starts: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check that the parts fit each other."""
        ids, category, instance = self.ids, self.category, self.instance
        if ids.ndim != 2 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"ids must be (H, W) integers, not {ids.shape} {ids.dtype}")
        if category.ndim != 1 or category.shape != instance.shape:
            raise ValueError(
                f"category {category.shape} and instance {instance.shape} must be two (S,) columns"
            )
        for column in (category, instance):
            if column.size and (column.min() < 0 or column.max() >= ID_LIMIT):
                raise ValueError(
                    f"category and instance must be in 0..2**31-1, found {column.min()}..{column.max()}"
                )
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= len(category):
            raise ValueError(f"ids {low}..{high} do not fit a table of {len(category)} rows")

    @classmethod
    def from_pairs(cls, pairs: Any, name: str = "pairs") -> PanopticMap:
        """Number the segments of (H, W, 2) integer (category, instance), an array or a CPU tensor.

        Args:
            name: what the errors call it.

        Raises:
            ValueError: for another shape, no pixels, a dtype that is not integer, or ids outside 0..2**31-1.
        """
        pairs = np.asarray(pairs)
        if pairs.ndim != 3 or pairs.shape[-1] != 2 or pairs.size == 0:
            raise ValueError(f"{name} must be of shape (H, W, 2) = (category, instance), not {pairs.shape}")
        flat = np.ascontiguousarray(pairs).reshape(-1)
        # Category and instance lie side by side: seen as one 16-bit number, a pixel changed when either did.
        start = first_pixels((flat[2:] != flat[:-2]).view(np.uint16) != 0)
        category, instance = flat.reshape(-1, 2)[start].T
        return cls._of_runs(start, category, instance, pairs.shape[:2], name)

    @classmethod
    def from_maps(cls, category: np.ndarray, instance: np.ndarray, name: str = "maps") -> PanopticMap:
        """Number the segments of two (H, W) integer maps: every pair of values is one.

        Raises:
            ValueError: as `from_pairs`.
        """
        kinds, objects = (np.ascontiguousarray(values).reshape(-1) for values in (category, instance))
        start = first_pixels(changes(kinds, objects))
        return cls._of_runs(start, kinds[start], objects[start], category.shape, name)

    @classmethod
    def _of_runs(
        cls,
        start: np.ndarray,
        category: np.ndarray,
        instance: np.ndarray,
        shape: tuple[int, ...],
        name: str,
    ) -> PanopticMap:
        """Number the segments of runs of pixels: neighbours mostly agree, so a run is looked at once."""
        for values in (category, instance):
            if not np.issubdtype(values.dtype, np.integer):
                raise ValueError(f"{name} must hold integer ids, not {values.dtype}")
            if values.min() < 0 or values.max() >= ID_LIMIT:
                raise ValueError(f"{name} ids must be in 0..2**31-1, found {values.min()}..{values.max()}")
        width = int(instance.max()) + 1
        ids, keys = number_runs(start, category.astype(np.int64) * width + instance, shape)
        return cls(ids, keys // width, keys % width, start)

    @classmethod
    def from_numbers(
        cls, numbers: np.ndarray, category: np.ndarray | Sequence[int], instance: np.ndarray | Sequence[int]
    ) -> PanopticMap:
        """Take (H, W) integer numbers of segments, and the two columns that say what they are."""
        columns = (np.asarray(column, dtype=np.int64) for column in (category, instance))
        return cls(numbers.astype(id_type(len(category)), copy=False), *columns)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return int(self.ids.shape[0]), int(self.ids.shape[1])

    @property
    def areas(self) -> np.ndarray:
        """(S,) int64 pixels of each row."""
        return np.bincount(self.ids.ravel(), minlength=len(self.category))

    @property
    def categories(self) -> np.ndarray:
        """(H, W) int64 category of each pixel."""
        return self.category[self.ids]

    @property
    def instances(self) -> np.ndarray:
        """(H, W) int64 instance of each pixel."""
        return self.instance[self.ids]

    @property
    def pairs(self) -> np.ndarray:
        """(H, W, 2) int64 (category, instance) of each pixel, the form that most other tools take."""
        return np.stack((self.category, self.instance), axis=-1)[self.ids]

    def with_category(self, category: np.ndarray) -> PanopticMap:
        """Return the same segments with other categories, (S,)."""
        return replace(self, category=np.asarray(category, dtype=np.int64))

    def with_void(self, before: int, after: int) -> PanopticMap:
        """Return the map with another number for void."""
        if before == after:
            return self
        return self.with_category(np.where(self.category == before, after, self.category))

    def with_ids(self, ids: np.ndarray) -> PanopticMap:
        """Return other pixels, (H', W'), of the same table."""
        return replace(self, ids=ids, starts=None)

    def resized(self, size: tuple[int, int]) -> PanopticMap:
        """Return the map at another size (H', W'), by the nearest pixel as `cups.ops.resize.resize_ids`."""
        if self.shape == tuple(size):
            return self
        from cups.ops.resize import nearest_indices  # here: a map alone needs no torch

        rows, columns = (nearest_indices(*sides).numpy() for sides in zip(self.shape, size, strict=True))
        return self.with_ids(self.ids[rows[:, None], columns])

    def merged(self) -> PanopticMap:
        """Return the map with one row for each category and instance, in rising order."""
        keys, row = np.unique(self.category * ID_LIMIT + self.instance, return_inverse=True)
        if len(keys) == len(self.category) and (row[1:] > row[:-1]).all():
            return self
        return PanopticMap.from_numbers(
            row.astype(id_type(len(keys)))[self.ids], keys // ID_LIMIT, keys % ID_LIMIT
        )

    def padded_row(self, category: int) -> tuple[PanopticMap, int]:
        """Return the map with one more row in its table, of a category without instance, and its number."""
        row = len(self.category)
        ids = self.ids.astype(id_type(row + 1), copy=False)
        table = np.append(self.category, category), np.append(self.instance, 0)
        return PanopticMap(ids, *table, self.starts), row


def as_panoptic_map(value: Any, name: str = "pairs") -> PanopticMap:
    """Return a panoptic map as it is, or made of (H, W, 2) integer (category, instance)."""
    return value if isinstance(value, PanopticMap) else PanopticMap.from_pairs(value, name)


def id_type(count: int) -> type[np.integer[Any]]:
    """Return the smallest type of ids below `count`: uint8, uint16 or int32."""
    return np.uint8 if count <= 2**8 else np.uint16 if count <= 2**16 else np.int32


def number_values(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (H, W) ids of the rising distinct values of an (H, W) map of integers >= 0, and these values.

    What `np.unique` returns, in a fraction of its time on maps with regions.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    start = first_pixels(changes(flat))
    return number_runs(start, flat[start].astype(np.int64), values.shape)


def number_runs(
    start: np.ndarray, values: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `number_values` returns, of a map of runs.

    Args:
        start: (R,) first pixel of each run.
        values: (R,) integers >= 0, of each run.
        shape: (H, W) of the map.
    """
    found, row = distinct(values)
    length = lengths(start, shape[0] * shape[1])
    return np.repeat(row.astype(id_type(len(found))), length).reshape(shape), found


def distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rising distinct values of (N,) integers >= 0, and the position of each one among them."""
    if int(keys.max()) < 4 * len(keys):  # a table of what is present, where it is no longer than the keys
        present = np.bincount(keys) > 0
        return np.flatnonzero(present), (np.cumsum(present) - 1)[keys]
    unique = np.unique(keys)
    return unique, np.searchsorted(unique, keys)
