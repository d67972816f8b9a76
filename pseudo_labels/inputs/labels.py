"""Reading the label folders of Stage 1, and which of their classes are things."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cups.errors import NothingFound, UserError
from cups.io.file_names import SPLIT_FILE
from cups.io.files import read_npy, write_json
from cups.io.png import read_ids
from cups.io.thing_stuff import read_split
from cups.taxonomy import VOID, class_set, void_value
from pseudo_labels.inputs.instances import read_instances
from pseudo_labels.inputs.normalised_depth import is_normalised, to_metres
from pseudo_labels.steps.ancestry import MADE_OF, made_of, refuse_stale_split
from pseudo_labels.steps.frames import Folder, Frame
from pseudo_labels.steps.label_kind import label_kind


def read_semantic(path: Path, num_classes: int | None = None) -> np.ndarray:
    """Read a semantic map: (H, W) uint8 or uint16.

    Raises:
        UserError: unreadable, or a class beyond `num_classes` (its void value is allowed).
    """
    semantic = read_ids(path)
    if num_classes is not None:
        void = void_value(num_classes)
        highest = int(semantic.max(initial=0, where=semantic != void))
        if highest >= num_classes:
            raise UserError(
                f"{path}: holds class {highest}, but there are {num_classes}; check `num_semantic_classes` "
                "and `semantic_subdir`"
            )
    return semantic


def read_pair(
    semantic: Path, instance: Path, num_classes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read a semantic map and the instance map of the same frame, both (H, W).

    instance: PNG of ids or NPZ of masks (`read_instances`), which is brought to the size of the semantics.

    Raises:
        UserError: unreadable files, sizes that differ, a class beyond `num_classes`.
    """
    classes = read_semantic(semantic, num_classes)
    ids = read_instances(instance, (classes.shape[0], classes.shape[1]))
    if classes.shape != ids.shape:
        raise UserError(
            f"{instance}: size {_size(ids)}, but {semantic.name} is {_size(classes)}; "
            "generate the instances from these semantics"
        )
    return classes, ids


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]}x{array.shape[1]}"


def read_depth(path: Path) -> np.ndarray:
    """Read a depth map: (H, W) float32, metres or any other unit, positive.

    A map that was brought to 0-1 by its minimum and maximum is brought back to plausible metres
    (`normalised_depth`).

    Raises:
        UserError: missing or cut-short file, another shape, values that are not positive and finite, 0-1
            values of inverse depth.
    """
    depth = read_npy(path, ndim=2).astype(np.float32)
    if is_normalised(depth):
        return to_metres(path, depth)
    if not depth.size or not (np.isfinite(depth).all() and depth.min() > 0):
        raise UserError(f"{path}: depth must be positive and finite everywhere; generate the file again")
    return depth


def check_aspect(path: Path, size: tuple[int, int], other: tuple[int, int]) -> None:
    """Raise a `UserError` naming `path` when (H, W) `size` has not the shape of `other`, within a pixel."""
    if abs(size[0] * other[1] - size[1] * other[0]) > max(*size, *other):
        raise UserError(
            f"{path}: {size[0]}x{size[1]} has not the shape of the labels, {other[0]}x{other[1]}; "
            "generate both from the same images"
        )


SEED_SPLIT_FILE = "stuff_things.json"
"""The split as earlier versions of the pipeline wrote it; it is read where ours is missing."""


def split_beside(semantics: Folder) -> Path:
    """Return the split file of a semantic folder: ours, or an earlier version's where only that exists."""
    ours, earlier = (semantics.directory / name for name in (SPLIT_FILE, SEED_SPLIT_FILE))
    return earlier if not ours.is_file() and earlier.is_file() else ours


def write_split(path: Path, content: dict[str, object]) -> None:
    """Write a thing/stuff split with its explanation as JSON, atomically."""
    write_json(path, content)


def carry_split(semantics: Folder, output: Folder, num_classes: int) -> None:
    """Write the input's thing/stuff split, where one is known, into the output: the ids are the same."""
    things = find_things(semantics)
    if things is not None:
        write_split_beside(output, things, num_classes, semantics.name)


def write_split_beside(output: Folder, things: Sequence[int], num_classes: int, taken_from: str) -> None:
    """Write which classes of a folder are things into it; it holds whatever images the folder gets."""
    stuffs = [index for index in range(num_classes) if index not in set(things)]
    content: dict[str, object] = {"things": list(things), "stuffs": stuffs, "taken_from": taken_from}
    write_split(output.directory / SPLIT_FILE, {**content, MADE_OF: made_of(output, None)})


def find_things(
    semantics: Folder, given: Sequence[int] | None = None, split_json: Path | None = None
) -> tuple[int, ...] | None:
    """Return the thing classes of a semantic folder, None where nothing tells.

    In this order: the classes `given`; the split file named; the split file in the folder; the things of
    Cityscapes where the folder says that its classes are trainIds, or CAUSE's 27 in their order. Numbers of
    clusters name nothing.

    Raises:
        UserError: a split made of other semantics than the folder holds now.
    """
    beside = split_beside(semantics)
    if given:
        return tuple(given)
    if split_json is not None or beside.is_file():
        refuse_stale_split(split_json or beside, semantics)
        return read_split(split_json or beside).things
    labels = label_kind(semantics.directory)
    return None if labels is None or labels.kind == "clusters" else class_set(labels.num_classes).things


def thing_classes(
    semantics: Folder,
    given: Sequence[int] | None = None,
    split_json: Path | None = None,
    accept_nothing: bool = False,
) -> tuple[int, ...]:
    """Return the thing classes of a semantic folder, see `find_things`.

    accept_nothing: there may be none.

    Raises:
        NothingFound: there are no things, and that is not accepted.
        UserError: nothing tells, or ids that no map can hold.
    """
    things = find_things(semantics, given, split_json)
    split_file = split_json or semantics.directory / SPLIT_FILE
    if things is None:
        raise UserError(
            f"{split_file}: no such file; run pseudo_labels/classify_stuff_things.py `semantic_subdir` "
            f"{semantics.name}, or give `thing_classes`"
        )
    if not things and not accept_nothing:
        raise NothingFound(
            f"{split_file}: names no thing; run classify_stuff_things.py with a lower `threshold`, "
            "or `grad_threshold` and `depth_blur` that suit blurred depth, or give `thing_classes`; to go on "
            "with stuff alone, add `accept_nothing`"
        )
    if things and (min(things) < 0 or max(things) >= 65535):
        raise UserError(f"`thing_classes` {min(things)} ... {max(things)}: class ids lie in 0-65534")
    kind = label_kind(semantics.directory)
    if given and kind is not None and max(given) >= kind.num_classes:
        count = kind.num_classes
        raise UserError(
            f"`thing_classes`: {max(given)} is no pseudo-class, there are {count} in {semantics.directory}"
        )
    return things


def thing_regions(semantic: np.ndarray, things: Sequence[int], merged: bool = False) -> np.ndarray:
    """Return the regions of thing classes: (H, W), dtype of the map, 0 = no thing.

    Regions are numbered from 1 in the order of `things`, so that class 0 is not taken for "none".

    Args:
        semantic: (H, W) uint8 or uint16 classes.
        merged: all things are region 1.
    """
    table = np.zeros(int(np.iinfo(semantic.dtype).max) + 1, dtype=semantic.dtype)
    for region, thing in enumerate((t for t in things if t < len(table)), start=1):
        table[thing] = 1 if merged else region
    return table.take(semantic, mode="clip")


def count_classes(semantics: Folder, frames: Sequence[Frame]) -> int:
    """Return the highest class of the maps plus one, void (255 in 8 bits, 65535 in 16) left out."""
    highest = -1
    for frame in frames:
        semantic = read_semantic(semantics.path(frame))
        void = VOID if semantic.dtype == np.uint8 else 65535
        highest = max(highest, int(semantic.max(initial=0, where=semantic != void)))
    return highest + 1
