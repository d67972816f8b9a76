"""Which keys a script does not read, so that giving one on its command line is no silent mistake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

STAGE3_NETWORK = (
    "MODEL.BACKBONE_TYPE",
    "MODEL.FREEZE_BACKBONE",
    "MODEL.GRADIENT_CHECKPOINTING",
    "MODEL.CONFIG",
)
"""Of the network: Stage 3 goes on with that of its checkpoint."""
UNREAD: Mapping[str, tuple[str, ...]] = {
    "train.py": (
        "SELF_TRAINING.",
        "MODEL.USE_TEACHER",
        "MODEL.TTA_INFERENCE_CONFIDENCE_THRESHOLD",
        "VALIDATION.SEMSEG_CENTER_CROP_SIZE",
        "VALIDATION.USE_",
    ),
    "train_self.py": (
        *STAGE3_NETWORK,
        "MODEL.USE_DINO",
        "MODEL.USE_TEACHER",
        "MODEL.BACKBONE_CHECKPOINT",
        "DATA.ROOT_PSEUDO",
        "DATA.THING_STUFF_THRESHOLD",
        "DATA.ONLY_NON_EMPTY_SAMPLES",
        "DATA.GROUND_TRUTH",
        "DATA.LABEL_FRACTION",
        "TRAINING.TRAINABLE",
        "TRAINING.STEPS",
        "TRAINING.WARMUP_STEPS",
        "TRAINING.DECAY",
        "TRAINING.CLASS_WEIGHTING",
        "TRAINING.DROP_LOSS",
        "AUGMENTATION.NUM_STEPS_STARTUP",
        "AUGMENTATION.CONFIDENCE",
        "VALIDATION.SEMSEG_CENTER_CROP_SIZE",
        "VALIDATION.HELD_OUT_FRAMES",
        "VALIDATION.USE_",
    ),
    "val.py": ("TRAINING.", "SELF_TRAINING.", "AUGMENTATION."),
    "cups_inference_val.py": ("TRAINING.", "SELF_TRAINING.", "AUGMENTATION."),
}
"""Script -> keys, or the starts of keys that end in a dot or an underscore. `tests/test_entry_scripts.py`
watches what is read."""


def unread(script: str, keys: Iterable[str]) -> list[str]:
    """Return those of some keys that a script (name of its file) does not read."""
    listed = UNREAD.get(script, ())
    exact = frozenset(listed)
    starts = tuple(start for start in listed if start.endswith((".", "_")))
    return [key for key in dict.fromkeys(keys) if key in exact or key.startswith(starts or ("\0",))]
