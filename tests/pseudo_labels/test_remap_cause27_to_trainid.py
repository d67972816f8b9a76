"""CAUSE's 27 classes to the 19 trainIds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.png import read_ids, write_png
from cups.io.provenance import write_provenance
from pseudo_labels.remap_cause27_to_trainid import main
from pseudo_labels.steps.label_kind import LabelKind


def fill(root: Any, value: int) -> None:
    row = np.array([[0, 1, 2, 16, 17, 19, 22, 26, value]], np.uint8)
    for stem in root.stems:
        write_png(root.file("pseudo_semantic_cause27", f"{stem}.png"), row)
    labels = LabelKind("cause27", 27).content()
    write_provenance(root.path / "pseudo_semantic_cause27", script="x", arguments={}, labels=labels)


def test_main__known_classes(tiny_root: Any) -> None:
    fill(tiny_root, 255)
    main(["--cityscapes_root", str(tiny_root.path)])
    path = tiny_root.file("pseudo_semantic_mapped_cause27", f"{tiny_root.stems[0]}.png")
    # road, sidewalk, parking (void), sky, person, car, caravan (void), bicycle, void.
    assert read_ids(path).tolist() == [[0, 1, 255, 10, 11, 13, 255, 18, 255]]


def test_main__a_28th_class_is_refused(tiny_root: Any) -> None:
    fill(tiny_root, 27)
    with pytest.raises(UserError, match="holds class 27"):
        main(["--cityscapes_root", str(tiny_root.path)])


@pytest.mark.parametrize(
    "labels", [None, {"kind": "cause27", "num_classes": 27}, {"kind": "clusters", "num_classes": 27}]
)
def test_main__rows_of_a_probe_are_no_classes(tiny_root: Any, labels: dict[str, Any] | None) -> None:
    """Folders of earlier versions call rows "cause27" too."""
    fill(tiny_root, 255)
    write_provenance(tiny_root.path / "pseudo_semantic_cause27", script="x", arguments={}, labels=labels)
    with pytest.raises(UserError, match="pseudo_semantic_cause27: holds clusters without names"):
        main(["--cityscapes_root", str(tiny_root.path)])
