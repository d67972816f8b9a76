"""What is wrong with a folder in the CUPS format as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cups import defaults
from cups.data.pseudo_label_dataset import load_statistics
from cups.errors import UserError
from cups.io.file_names import SPLIT_FILE
from cups.io.files import read_json
from cups.io.images import frame_stem, list_city_images
from cups.io.provenance import read_provenance
from cups.io.thing_stuff import NOTHING_FOUND, read_split
from cups.label_split import label_split, stated_split, thing_stuff_split
from pseudo_labels.algorithms.cups_format import FORMAT_FILE
from pseudo_labels.scoring.alignment import QUADRANTS, Peak
from pseudo_labels.scoring.diagnosis_frames import (
    FolderSums,
    Level,
    is_displaced,
    is_unrelated,
    size_text,
)
from pseudo_labels.settings.groups import LEAST_FOUND

STATISTICS_TOLERANCE = 1e-5
"""Relative: the files hold float32 sums."""


@dataclass(frozen=True)
class Finding:
    """Something wrong ("defect": training would suffer), or worth knowing ("note").

    Attributes:
        check: name of the check.
        message: what and, for defects, how to mend it.
        frames: the frames concerned, none where it concerns the folder.
    """

    level: Level
    check: str
    message: str
    frames: tuple[str, ...] = ()


def coverage_findings(root: Path, split: str, stems: Sequence[str]) -> list[Finding]:
    """Return the images of a split that have no labels.

    Raises:
        UserError: no such split.
    """
    images = list_city_images(root / "leftImg8bit" / split)
    if not images:
        raise UserError(f"{root / 'leftImg8bit' / split}: no images; check `data_root` and `split`")
    have = set(stems)
    missing = tuple(stem for path in images if (stem := frame_stem(path)) not in have)
    if not missing:
        return []
    text = f"{len(missing)} of {len(images)} images of {split} have no labels; convert that split again"
    return [Finding("defect", "pairs", text, missing)]


def format_findings(folder: Path, num_classes: int | None, num_frames: int) -> list[Finding]:
    """Compare `format.json` with the statistics and the files; say where labels come from."""
    findings = []
    path = folder / FORMAT_FILE
    try:
        content = read_json(path, "convert again") if path.is_file() else None
        told = content and (content["num_pseudo_classes"], content["frames"])
    except (UserError, KeyError):
        told = None
        findings.append(Finding("defect", "format", f"{FORMAT_FILE} is damaged; convert again"))
    if told and num_classes is not None and told != (num_classes, num_frames):
        text = f"{FORMAT_FILE} tells of {told[0]} pseudo-classes and {told[1]} frames, the folder has "
        findings.append(
            Finding("defect", "format", f"{text}{num_classes} and {num_frames}; convert again to its end")
        )
    provenance = read_provenance(folder)
    if provenance is None or provenance.get("uses_ground_truth") is not False:
        fact = (
            "is unknown" if provenance is None or provenance.get("uses_ground_truth") is None else "was used"
        )
        findings.append(Finding("note", "provenance", f"whether ground truth was used: it {fact}"))
    return findings


def frame_findings(sums: FolderSums) -> Iterator[Finding]:
    """Yield one finding per kind of problem of frames, with the first one's message."""
    for (level, check), cases in sums.problems.items():
        stem, message = cases[0]
        example = f"{stem}: {message}" if stem not in message else message
        yield Finding(level, check, example, tuple(case[0] for case in cases))
    readable = sum(sums.sizes.values())
    if readable and sums.without_instance == readable:
        yield Finding("defect", "empty", "no image has an instance: there is nothing to train on")
    elif readable and readable - sums.without_instance < LEAST_FOUND * readable:
        text = f"{readable - sums.without_instance} of {readable} images have an instance"
        yield Finding(
            "defect",
            "empty",
            f"{text}, and training leaves out the others; look at things, depth and the instances' settings",
        )
    if len(sums.sizes) > 1:
        sizes = ", ".join(f"{size_text(size)} ({count})" for size, count in sorted(sums.sizes.items()))
        yield Finding("note", "sizes", f"label files of several sizes: {sizes}")


def read_statistics(folder: Path) -> tuple[tuple[Tensor, Tensor] | None, list[Finding]]:
    """Return the folder's (pixels, inside) statistics, None where they cannot be read, and what is wrong."""
    try:
        all_pixels, inside = load_statistics(folder)
    except UserError as error:
        return None, [Finding("defect", "statistics", str(error))]
    if all_pixels.shape != inside.shape:
        text = f"{len(all_pixels)} classes in all pixels, {len(inside)} inside instances; convert again"
        return None, [Finding("defect", "statistics", text)]
    return (all_pixels, inside), []


def statistics_findings(
    statistics: tuple[Tensor, Tensor], sums: FolderSums, complete: bool
) -> Iterator[Finding]:
    """Compare the statistics with the files, if all were read."""
    stored = np.stack([values.numpy() for values in statistics])
    found = np.stack((sums.pixels, sums.inside))[:, : stored.shape[1]]
    wrong = np.flatnonzero(~np.isclose(stored, found, rtol=STATISTICS_TOLERANCE, atol=0.5).all(axis=0))
    if complete and len(wrong):
        first = wrong[0]
        yield Finding(
            "defect",
            "statistics",
            f"{len(wrong)} of {stored.shape[1]} pseudo-classes differ from the files; number {first}: "
            f"{stored[0, first]:.0f} pixels, {stored[1, first]:.0f} inside instances, the files have "
            f"{found[0, first]} and {found[1, first]}; convert again to count anew",
        )
    unused = np.flatnonzero(sums.pixels[: stored.shape[1]] == 0)
    if complete and len(unused):
        shown = ", ".join(map(str, unused[:20])) + (", ..." if len(unused) > 20 else "")
        yield Finding("note", "classes", f"{len(unused)} pseudo-classes without a pixel: {shown}")


def split_findings(
    folder: Path, statistics: tuple[Tensor, Tensor], threshold: float | None
) -> Iterator[Finding]:
    """Compare the thing/stuff split of the labels with their semantics' and with the published rule.

    threshold: of the training, which overrides the split; None: none is given.
    """
    if (cause := _nothing_found(folder)) is not None:
        yield Finding("defect", "empty", cause)
    try:
        used = label_split(folder, *statistics, threshold)
        stated = stated_split(folder, len(statistics[0]))
    except UserError as error:
        yield Finding("defect", "split", str(error))
        return
    if stated is None:
        if (folder / FORMAT_FILE).is_file():  # labels of others know no such file
            text = f"no {SPLIT_FILE}: training derives {len(used.things)} things from the statistics"
            yield Finding("note", "split", f"{text}; labels that are converted again carry their split")
        return
    if threshold is not None and (text := _disagreement(stated.things, used.things)):
        yield Finding(
            "note", "split", f"DATA.THING_STUFF_THRESHOLD {threshold:g} overrides the split: {text}"
        )
    if (source := _split_of_semantics(folder)) is not None:
        path, now = source
        if text := _disagreement(stated.things, now):
            yield Finding(
                "defect", "split", f"{path} says otherwise than {SPLIT_FILE} here: {text}; convert again"
            )
    if threshold is None:
        yield from _rule_findings(stated.things, statistics)


def _nothing_found(folder: Path) -> str | None:
    """Return why the split of the labels, or of their semantics, is worth nothing; None if it is not so."""
    path = folder / SPLIT_FILE
    if not path.is_file():
        return None
    try:
        content = read_json(path, "convert again")
        source = _taken_from(folder, content)
        told = [content, *([] if source is None else [read_json(source, "classify again")])]
    except UserError:
        return None  # a damaged file is told below
    cause = next((str(one[NOTHING_FOUND]) for one in told if NOTHING_FOUND in one), None)
    if cause is None and content.get("things") == []:
        cause = f"{path}: no pseudo-class is a thing"
    return None if cause is None else f"nothing was found: {cause}; a network needs things and stuff"


def _rule_findings(things: Sequence[int], statistics: tuple[Tensor, Tensor]) -> Iterator[Finding]:
    """Say where the published rule would decide otherwise."""
    rule = f"the published rule ({defaults.THING_STUFF_THRESHOLD:g})"
    try:
        derived = thing_stuff_split(*statistics, defaults.THING_STUFF_THRESHOLD).things
    except UserError:
        yield Finding("note", "split", f"{rule} could not tell things from stuff here; the split decides")
        return
    if text := _disagreement(things, derived):
        yield Finding("note", "split", f"{rule} would decide otherwise: {text}; the split decides")


def _disagreement(things: Sequence[int], others: Sequence[int]) -> str:
    """Return which classes change sides, empty where none does."""
    sides = ((set(things) - set(others), "stuff there"), (set(others) - set(things), "things there"))
    return ", ".join(f"{' '.join(map(str, sorted(found)))} {words}" for found, words in sides if found)


def _split_of_semantics(folder: Path) -> tuple[Path, tuple[int, ...]] | None:
    """Return the split file of the semantics that the labels were made of, and its things; None if gone.

    Only where the conversion took that file: things may have been named in another way.
    """
    path = _taken_from(folder, read_json(folder / SPLIT_FILE, "convert again"))
    return None if path is None else (path, read_split(path).things)


def _taken_from(folder: Path, content: Mapping[str, Any]) -> Path | None:
    """Return the split file that a conversion says it took, None if it is not there.

    Beside the labels' folder alone: a file of others leads to no other place.
    """
    told = content.get("taken_from")
    path = Path(told) if isinstance(told, str) else Path()
    beside = path.resolve().is_relative_to(folder.resolve().parent)
    return path if path.name == SPLIT_FILE and beside and path.is_file() else None


def alignment_findings(sums: FolderSums, tolerance: float) -> Iterator[Finding]:
    """Judge where the borders of the folder, of its quadrants and of single frames fit the edges best."""
    whole = [size for size, fit in sums.fits.items() if is_displaced(fit.peak(), size, tolerance)]
    parts = [
        (size, index)
        for size, fit in sums.fits.items()
        for index in range(len(QUADRANTS))
        if is_displaced(fit.peak(index), size, tolerance)
    ]
    for size in whole:
        text = f"borders fit the image edges when {moved(sums.fits[size].peak(), size)}"
        yield Finding("defect", "alignment", f"{text}; the labels are displaced: {REMEDY}")
    if parts and not whole:
        size, index = parts[0]
        text = (
            f"borders of the {QUADRANTS[index]} quarter fit when {moved(sums.fits[size].peak(index), size)}"
        )
        yield Finding("defect", "alignment", f"{text}; the labels are scaled or cropped: {REMEDY}")
    for size, fit in sums.fits.items():
        if size not in whole and is_unrelated(fit.peak()):
            text = f"edges are not stronger under the borders than elsewhere (at {size_text(size)})"
            yield Finding(
                "defect", "alignment", f"{text}; the labels belong to other images, or are too poor"
            )
    if sums.displaced and not whole:
        text = "borders of single images clearly fit the edges elsewhere; convert these again"
        yield Finding("defect", "alignment", text, tuple(sums.displaced))
    if sums.unrelated:
        text = "images whose own borders lie on no edges; look at some"
        yield Finding("note", "alignment", text, tuple(sums.unrelated))


REMEDY = "generate them from these very images, without crop or shift"


def moved(peak: Peak, size: tuple[int, int]) -> str:
    """Return "moved 9 pixels left and 2 up (of 192x384)"."""
    ways = (
        (peak.right, "right" if peak.right > 0 else "left"),
        (peak.down, "down" if peak.down > 0 else "up"),
    )
    text = " and ".join(f"{abs(pixels)} {way}" for pixels, way in ways if pixels) or "0"
    return f"moved by {text} (pixels of {size_text(size)})"
