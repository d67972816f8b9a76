"""Files that an earlier version of this code made: where a default has changed since, they do not go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cups.errors import UserError
from cups.io.png import image_size
from cups.io.provenance import read_provenance
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.options import RunOptions
from pseudo_labels.steps.resume import files_besides


def refuse_earlier_way(
    folder: Folder, run: RunOptions, setting: str, way: str, differs: Callable[[], bool]
) -> None:
    """Refuse to add to files that were made before `setting` existed, in a way that it does not stand for.

    Args:
        setting: which `provenance.json` names since the change.
        way: how files were made before.
        differs: whether that gave other files than this run writes.

    Raises:
        UserError: the folder holds such files, and this run does not overwrite them.
    """
    earlier = read_provenance(folder.directory)
    if run.overwrite or earlier is None or setting in earlier.get("arguments", {}):
        return
    if files_besides(folder, ()) and differs():
        raise UserError(
            f"{folder.directory}: holds files of an earlier version, made with {way}; add `overwrite`, or "
            "use another `output_root`"
        )


def refuse_earlier_crf(folder: Folder, run: RunOptions, source: FrameSource, rows: int | None) -> None:
    """Refuse to add to labels that a CRF refined at the size of the images, if it would now be smaller.

    rows: image height inside the CRF, 0: native; None: no CRF.

    Raises:
        UserError: as `refuse_earlier_way`.
    """
    if rows:
        way = "a CRF at the size of the images"
        refuse_earlier_way(folder, run, "crf_height", way, lambda: first_size(source.frames())[0] > rows)


def first_size(frames: Sequence[Frame]) -> tuple[int, int]:
    """Return the (H, W) of the first image whose header can be read.

    Raises:
        UserError: there is none; it is that of the first.
    """
    for frame in frames:
        try:
            return image_size(frame.image)
        except UserError:
            continue
    return image_size(frames[0].image)
