"""How many classes a folder has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cups.errors import UserError
from cups.io.provenance import write_provenance
from pseudo_labels.networks.refine_training import label_count
from pseudo_labels.steps.frames import Folder, Frame
from pseudo_labels.steps.label_kind import LabelKind

MAPPED = "pseudo_semantic_mapped_k300"


@pytest.mark.parametrize(
    ("name", "classes"),
    [("pseudo_semantic_cause27", 27), ("pseudo_semantic_raw_k120", 120), (MAPPED, 19), ("own", 14)],
)
def test_label_count(tiny_root: Any, name: str, classes: int) -> None:
    (tiny_root.path / MAPPED).rename(tiny_root.path / name)
    frames = [Frame(stem, Path("train/aachen"), Path()) for stem in tiny_root.stems]
    assert label_count(Folder(tiny_root.path, name, ".png"), frames, None) == classes
    assert label_count(Folder(tiny_root.path, name, ".png"), frames, 30) == 30


def test_label_count__provenance_before_the_name(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "pseudo_semantic_raw_k120", ".png")
    labels = LabelKind("clusters", 90).content()
    write_provenance(folder.directory, script="test", arguments={}, labels=labels)
    assert label_count(folder, [], None) == 90
    with pytest.raises(UserError, match="90"):
        label_count(folder, [], 120)
