"""What the ids of a folder mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cups.errors import UserError
from cups.io.provenance import write_provenance
from pseudo_labels.steps.label_kind import LabelKind, label_kind, number_of_classes, stated_classes


def labelled(folder: Path, labels: dict[str, Any] | None) -> Path:
    write_provenance(folder, script="test", arguments={}, labels=labels)
    return folder


def test_label_kind__provenance_is_believed_before_the_name(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "pseudo_semantic_raw_k300", LabelKind("clusters", 40).content())
    assert label_kind(folder) == LabelKind("clusters", 40)
    assert LabelKind("clusters", 40).content() == {"kind": "clusters", "num_classes": 40, "void": 255}
    assert LabelKind("clusters", 300).void == 65535


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("pseudo_semantic_cause27", LabelKind("clusters", 27)),
        ("pseudo_semantic_refined_cause27", LabelKind("clusters", 27)),
        ("pseudo_semantic_mapped_k300", LabelKind("trainId", 19)),
        ("pseudo_semantic_raw_k50", LabelKind("clusters", 50)),
        ("pseudo_semantic_raw_k300_merged50", LabelKind("clusters", 50)),
        ("pseudo_semantic_refined_raw_k50", LabelKind("clusters", 50)),
        ("my_labels_k50", None),
    ],
)
def test_label_kind__the_name_of_an_old_folder(tmp_path: Path, name: str, kind: LabelKind | None) -> None:
    assert label_kind(tmp_path / name) == kind  # no provenance at all
    assert label_kind(labelled(tmp_path / name, None)) == kind  # one without labels


@pytest.mark.parametrize(
    "labels",
    [
        {"kind": "clusters"},
        {"kind": "colours", "num_classes": 5},
        {"kind": "clusters", "num_classes": "many"},
        {"kind": "clusters", "num_classes": 0},
        {"kind": "clusters", "num_classes": 65535},
    ],
)
def test_label_kind__damaged(tmp_path: Path, labels: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"provenance\.json: does not say what the labels are"):
        label_kind(labelled(tmp_path, labels))


def test_number_of_classes__given_or_told(tmp_path: Path) -> None:
    stated = labelled(tmp_path / "a", LabelKind("clusters", 40).content())
    assert number_of_classes(stated, None) == number_of_classes(stated, 40) == 40
    with pytest.raises(UserError, match=r"^`k` 50: but .*a/provenance\.json says 40 classes \(clusters\)"):
        number_of_classes(stated, 50, "k")
    with pytest.raises(UserError, match=r"^`num_semantic_classes` 0: must be between 1 and 65534"):
        number_of_classes(stated, 0)


def test_number_of_classes__a_name_does_not_contradict(tmp_path: Path) -> None:
    old = labelled(tmp_path / "pseudo_semantic_raw_k50", None)
    assert number_of_classes(old, None) == 50 and number_of_classes(old, 7) == 7
    assert stated_classes(old, None) is None and stated_classes(old, 7) == 7
    assert number_of_classes(tmp_path / "nobody_knows", None) is None
