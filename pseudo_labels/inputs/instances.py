"""Instance maps: our PNG files, and the NPZ files of masks that earlier versions of the pipeline wrote."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.file_names import IMAGE_SUFFIX
from cups.io.files import read_npz
from cups.io.png import read_ids
from pseudo_labels.steps.folders import DEFAULT_METHOD, INSTANCE_PREFIX
from pseudo_labels.steps.frames import Folder

SUFFIX = ".png"
MASKS_SUFFIX = ".npz"
ENDINGS = (SUFFIX, MASKS_SUFFIX, IMAGE_SUFFIX.replace(SUFFIX, MASKS_SUFFIX))
"""Of a frame's instance file, the one that counts first."""
MOST_INSTANCES = 65535
FIRST_FOLDER = INSTANCE_PREFIX + DEFAULT_METHOD
"""Of instances, until version 0.2."""

log = logging.getLogger(__name__)


def instance_inputs(root: Path, name: str) -> Folder:
    """Return a folder of instances to be read, in either form."""
    return Folder(root, name, SUFFIX, ENDINGS[1:])


def found_instances(root: Path, given: str | None, default: str) -> Folder:
    """Return the folder of instances that was given, else the default one, else that of the first version.

    Its name said nothing of the semantics: `pseudo_instance_depth_guided`. It is read where no other is.
    """
    first = instance_inputs(root, FIRST_FOLDER)
    if given is not None or (root / default).is_dir() or not first.directory.is_dir():
        return instance_inputs(root, given or default)
    log.info("%s: taken, there is no %s", first.directory, default)
    return first


def read_instances(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read the instances of a frame: (H, W) uint8 or uint16, 0 = none.

    Args:
        path: PNG of ids, or NPZ of masks (`ids_of_masks`).
        size: to which ids of masks are brought if they have its shape, for masks are stored small.

    Raises:
        UserError: missing or damaged file.
    """
    if path.suffix != MASKS_SUFFIX:
        return read_ids(path)
    ids = read_masks(path)
    if size is None or abs(ids.shape[0] * size[1] - ids.shape[1] * size[0]) > max(*ids.shape, *size):
        return ids
    rows, columns = (
        (np.arange(target) * 2 + 1) * source // (2 * target)
        for source, target in zip(ids.shape, size, strict=True)
    )
    return ids[rows[:, None], columns]  # the nearest pixels, as `cups.ops.resize` takes them


def read_masks(path: Path) -> np.ndarray:
    """Read an NPZ file of masks as one map: (h, w) uint16, 0 = none.

    It holds `masks` (N, h, w), or (N, h * w) with `h_patches` and `w_patches`; perhaps `scores` (N,), by
    which overlaps are decided (without them the earlier mask wins), and `num_valid`, the masks that count.

    Raises:
        UserError: missing or damaged file, shapes that do not fit together.
    """
    stored = read_npz(path, ["masks"], ["scores", "num_valid", "h_patches", "w_patches"])
    masks = stored["masks"]
    try:
        if masks.ndim == 2:
            masks = masks.reshape(len(masks), int(stored["h_patches"]), int(stored["w_patches"]))
        count = int(stored.get("num_valid", len(masks)))
        scores = np.asarray(stored.get("scores", np.zeros(len(masks))), dtype=np.float64)
        if masks.ndim != 3 or not min(masks.shape[1:]):
            raise ValueError(f"shape {masks.shape}")
        if not (0 <= count <= len(masks) == scores.size and count <= MOST_INSTANCES):
            raise ValueError(f"masks {masks.shape}, scores {scores.shape}, num_valid {count}")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its masks do not fit together ({error}); generate the file again") from None
    return ids_of_masks(masks[:count] != 0, scores.ravel()[:count])


def ids_of_masks(masks: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Number masks: (N, h, w) bool and (N,) scores -> (h, w) uint16, from 1 in falling score, 0 = none.

    Where masks overlap, the higher score has the pixel; of equal ones the earlier mask. What another covers
    wholly gets no number.
    """
    ids = np.zeros(masks.shape[1:], dtype=np.uint16)
    given = 0
    for index in np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable"):
        free = masks[index] & (ids == 0)
        if free.any():
            given += 1
            ids[free] = given
    return ids
