"""Files of labels are told by their names; two of one frame are refused, never silently one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.png import write_png
from cups.labels.label_folders import IdFolder, open_labels

IDS = np.zeros((4, 6), np.uint8)


def write(folder: Path, *names: str) -> Path:
    for name in names:
        write_png(folder / name, IDS)
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("a/1_semantic.png", "a/1_instance.png", "b/1_semantic.png", "b/1_instance.png"),
        ("semantic/a/1.png", "instance/a/1.png", "semantic/b/1.png", "instance/b/1.png"),
        ("a/1.png", "b/1_leftImg8bit.png"),
    ],
)
def test_open_labels__frames_are_named_by_their_paths(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = open_labels(write(tmp_path, *names))
    assert isinstance(found, IdFolder) and sorted(found.files) == ["a/1", "b/1"]
    with_instances = [instance is not None for _, instance in found.files.values()]
    assert with_instances == [len(names) == 4] * 2


@pytest.mark.parametrize(
    "names",
    [
        ("a/1.png", "a/1_leftImg8bit.png"),
        ("a_leftImg8bit_semantic.png", "a_semantic.png"),
        ("semantic/1.png", "semantic/1_leftImg8bit.png"),
    ],
)
def test_open_labels__two_files_of_one_frame_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=r"of the frame \S+, as \S+ is; move one of both away"):
        open_labels(write(tmp_path, *names))
