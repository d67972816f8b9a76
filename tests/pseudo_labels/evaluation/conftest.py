"""Perfect labels of the tiny street, in all forms: every score is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cups.ops.png import read_ids, write_png
from cups.provenance import write_provenance
from pseudo_labels.convert_to_cups_format import main as convert

# Road 0 -> clusters 5 and 3 (left and right half), building 2 -> 0, car 13 -> 1; 2 and 4 stay empty.
CLUSTERS = np.zeros(256, np.uint8)
CLUSTERS[[0, 2, 13]] = 5, 0, 1


@pytest.fixture
def perfect_root(tiny_root: Any) -> Any:
    """`pseudo_instance_depth_guided`, `pseudo_semantic_raw_k6`, `cups_pseudo_labels` of the tiny street."""
    for stem in tiny_root.stems:
        semantic = read_ids(tiny_root.file("pseudo_semantic_mapped_k300", f"{stem}.png"))
        clusters = CLUSTERS[semantic]
        right = np.arange(clusters.shape[1]) >= clusters.shape[1] // 2
        clusters[(clusters == 5) & right] = 3
        write_png(tiny_root.file("pseudo_semantic_raw_k6", f"{stem}.png"), clusters)
        truth = read_ids(tiny_root.file("gtFine", f"{stem}_gtFine_instanceIds.png"))
        instances = np.where(truth >= 26000, truth - 26000 + 1, 0).astype(np.uint16)
        write_png(tiny_root.file("pseudo_instance_depth_guided", f"{stem}.png"), instances)
    for name in ("pseudo_semantic_raw_k6", "pseudo_instance_depth_guided"):
        write_provenance(tiny_root.path / name, script="test", arguments={})
    convert(["--cityscapes_root", str(tiny_root.path), "--num_semantic_classes", "6", "--thing_classes", "1"])
    return tiny_root
