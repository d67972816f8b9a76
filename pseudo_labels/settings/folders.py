"""Names of the folders and files that the steps of Stage 1 write and read."""

from __future__ import annotations

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
