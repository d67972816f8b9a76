"""From the name of a data set, or the file that describes it, to its frames with ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cups.data.cityscapes import CityscapesPanopticValidation
from cups.data.described import DescribedPanopticValidation
from cups.data.layouts import json_file
from cups.set_files import find_set
from cups.taxonomy import ClassSet, chosen_classes, load_class_set


def open_validation_set(
    name_or_path: str | Path, root: Path | str, split: str, classes: ClassSet, **rest: Any
) -> CityscapesPanopticValidation:
    """Return the frames of a data set.

    Args:
        name_or_path: of a shipped set, or of the file that describes a user's own.
        root: its folder.
        split: as the description names it.
        classes: of the ground truth, see `classes_of_set`.
        rest: `scale`, `crop`, `max_images` and `select` of `DescribedPanopticValidation`.

    Raises:
        UserError: files that are missing, or labels that are not those of the description.
    """
    described = find_set(name_or_path)
    if described.layout is not None:
        return DescribedPanopticValidation(described, root, split, classes, **rest)
    select = rest.pop("select", "")
    return CityscapesPanopticValidation(root, split, classes, **rest, select=select or described.select)


def classes_of_set(name_or_path: str | Path, root: Path | str, split: str, num_classes: int) -> ClassSet:
    """Return the classes of a data set: its class file's, or the categories of its JSON.

    Raises:
        UserError: no class file of so many classes, or no JSON.
    """
    described = find_set(name_or_path)
    name = described.class_file(num_classes)
    if not name:
        return load_class_set(json_file(described, Path(root), split))
    same = name == f"cityscapes-{num_classes}"
    return chosen_classes(num_classes, None if same else name)
