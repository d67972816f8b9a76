"""What refined labels are."""

from __future__ import annotations

from pathlib import Path

from cups.io.provenance import write_provenance
from pseudo_labels.generators.refined import refined_kind
from pseudo_labels.steps.label_kind import LabelKind


def test_refined_kind__that_of_the_input(tmp_path: Path) -> None:
    stated = LabelKind("cause27", 27)
    write_provenance(tmp_path / "own", script="test", arguments={}, labels=stated.content())
    assert refined_kind(tmp_path / "own", 27) == stated
    assert refined_kind(tmp_path / "pseudo_semantic_raw_k50", 50) == LabelKind("clusters", 50)
    assert refined_kind(tmp_path / "nobody_knows", 50) is None
    # Ids beyond those of the input have no name, so none has.
    assert refined_kind(tmp_path / "own", 30) == LabelKind("clusters", 30)
