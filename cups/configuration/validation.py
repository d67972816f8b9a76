"""Section VALIDATION: how a network is scored."""

from __future__ import annotations

from cups.allowed import BATCH, COUNT, SIDE, SWITCH, choice, optional
from cups.configuration.key import Key
from cups.defaults import VOID_RULE
from cups.metrics.protocol import VOID_RULES

VALIDATION = {
    "ADHERE_THING_STUFF": Key(True, SWITCH, "Match things with things and stuff with stuff only."),
    "BATCH_SIZE": Key(4, BATCH, "Frames for each forward pass."),
    "VOID_RULE": Key(
        VOID_RULE,
        choice(VOID_RULES),
        "How predicted void counts in the first result; both are always reported.",
    ),
    "SEMSEG_CENTER_CROP_SIZE": Key(
        None, optional(SIDE), "Side in pixels of the crop of STEGO's semantic protocol (320)."
    ),
    "HELD_OUT_FRAMES": Key(
        16, COUNT, "Training images that Stage 2 leaves out to measure on, where there is no ground truth."
    ),
    "USE_TTA": Key(False, SWITCH, "Predict over several sizes (MODEL.TTA_SCALES) and mirror images."),
    "USE_CRF": Key(False, SWITCH, "Refine the semantic output by a dense CRF; needs pydensecrf2."),
}
