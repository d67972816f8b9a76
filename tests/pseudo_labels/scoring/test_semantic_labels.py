"""What the ids of a folder are: by settings, provenance, the name of old folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from cups.errors import UserError
from cups.io.provenance import write_provenance
from cups.metrics.protocol import NAMED
from pseudo_labels.scoring.semantic_labels import kind_of
from pseudo_labels.settings.scoring import SEMANTIC_PROTOCOLS, SemanticScores
from pseudo_labels.steps.label_kind import LabelKind


def clusters(name: str, given: int | None) -> int:
    kind = kind_of(Path(name), SemanticScores(labels="clusters", num_semantic_classes=given))
    assert kind.kind == "clusters"
    return kind.num_classes


def test_kind_of__without_a_number() -> None:
    assert clusters("pseudo_semantic_raw_k300_merged50", None) == 50
    assert clusters("anything", 7) == 7
    with pytest.raises(UserError, match="`num_semantic_classes`: missing"):
        clusters("my_labels", None)
    with pytest.raises(UserError, match="`num_semantic_classes` 0"):
        clusters("my_labels", 0)


def test_kind_of__auto_asks_the_folder(tmp_path: Path) -> None:
    assert kind_of(Path("pseudo_semantic_refined_cause27"), SemanticScores()) == LabelKind("clusters", 27)
    folder = tmp_path / "my_labels"
    write_provenance(folder, script="x", arguments={}, labels=LabelKind("trainId", 19).content())
    assert kind_of(folder, SemanticScores()) == LabelKind("trainId", 19)
    assert kind_of(folder, SemanticScores(labels="clusters")) == LabelKind("clusters", 19)
    with pytest.raises(UserError, match=r"`num_semantic_classes` 50: .*says 19 classes \(trainId\)"):
        kind_of(folder, SemanticScores(num_semantic_classes=50))


def test_semantic_protocols__are_the_named_ones() -> None:
    assert set(SEMANTIC_PROTOCOLS) == {
        name for name, protocol in NAMED.items() if protocol.task == "semantic"
    }
