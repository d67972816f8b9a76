"""Names of the folders and files that the steps of Stage 1 write and read."""

from __future__ import annotations

FEATURES_PREFIX = "features_"
CODES_FOLDER = "codes_cause_tr"
CAUSE_SEMANTICS = "pseudo_semantic_cause27"
MAPPED_SEMANTICS = "pseudo_semantic_mapped_k300"
DEPTH_FOLDER = "depth_spidepth"
INSTANCE_PREFIX = "pseudo_instance_"
PANOPTIC_PREFIX = "pseudo_panoptic_"
REFINED_PREFIX = "pseudo_semantic_refined_"
DEFAULT_METHOD = "depth_guided"
CUPS_FOLDER = "cups_pseudo_labels"
SPLIT_FILE = "thing_stuff_split.json"
"""Written by `classify_stuff_things.py` into the semantic folder it looked at."""


def trained_heads(backbone: str) -> str:
    """Return the folder of CAUSE heads that were trained here, under the output root."""
    return f"cause_{backbone}"


def raw_semantics(k: int, merged: int | None = None) -> str:
    """Return the folder of clusters as they are, or of clusters that were merged to fewer."""
    return f"pseudo_semantic_raw_k{k}" + ("" if merged is None else f"_merged{merged}")


def mapped_semantics(k: int) -> str:
    """Return the folder of clusters that bear the names of the 19 classes."""
    return f"pseudo_semantic_mapped_k{k}"
