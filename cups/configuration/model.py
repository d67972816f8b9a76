"""Section MODEL: the network, its weights, and how it is asked at inference."""

from __future__ import annotations

from typing import Any

from cups.allowed import FRACTION, PATH, SCALES, SWITCH, Check, choice, is_list, optional
from cups.backbones.names import NAMES
from cups.configuration.key import Key
from cups.defaults import CONFIDENCE_THRESHOLD, FREEZE_BACKBONE, GRADIENT_CHECKPOINTING


def _is_pairs(value: Any) -> bool:
    return is_list(value) and len(value) % 2 == 0 and all(isinstance(key, str) for key in value[::2])


_OVERRIDES = Check(
    "a mapping {KEY: value}, or a list KEY, value, KEY, value, ...",
    _is_pairs,
)

MODEL = {
    "BACKBONE_TYPE": Key(
        "resnet50",
        choice(("resnet50", *NAMES)),
        "Trunk of the network; other names than resnet50 stand under a simple feature pyramid.",
    ),
    "FREEZE_BACKBONE": Key(
        FREEZE_BACKBONE,
        SWITCH,
        "Train pyramid and heads alone; holds for transformers, in Stage 3 as in its network.",
    ),
    "GRADIENT_CHECKPOINTING": Key(
        GRADIENT_CHECKPOINTING,
        SWITCH,
        "Compute the activations inside a transformer's blocks twice instead of keeping them.",
    ),
    "CONFIG": Key(
        None,
        optional(PATH, "None (by BACKBONE_TYPE)"),
        "Detectron2 YAML of the network: a name in cups/model/, or a path.",
    ),
    "OVERRIDES": Key(
        (),
        _OVERRIDES,
        "Keys of that YAML with other values; replaces, not extends, what an earlier layer gave.",
    ),
    "USE_DINO": Key(True, SWITCH, "Start from self-supervised weights of the trunk, not random ones."),
    "BACKBONE_CHECKPOINT": Key(
        None, optional(PATH, "None (where refs/weights.yaml says)"), "File of those weights."
    ),
    "CHECKPOINT": Key(
        None, optional(PATH), "Checkpoint to start from (Stage 2), to go on from (Stage 3) or to evaluate."
    ),
    "USE_TEACHER": Key(
        False, SWITCH, "Evaluate the averaged teacher of a self-training checkpoint, not the student."
    ),
    "INFERENCE_CONFIDENCE_THRESHOLD": Key(
        CONFIDENCE_THRESHOLD, FRACTION, "Lowest score of a detection, and of an instance in the panoptic map."
    ),
    "SNAP_TO_REGIONS": Key(
        None,
        optional(SWITCH, "None (as the network was trained)"),
        "Average semantic probabilities over regions of even colour: stuff then follows the image's edges.",
    ),
    "SEMANTIC_WEIGHT": Key(
        None,
        optional(FRACTION, "None (as the network was trained)"),
        "Weight of the semantic head, which gives the mean probability of things in the mask, in an "
        "instance's score; 0 is the box head alone.",
    ),
    "TTA_SCALES": Key(
        (0.5, 0.75, 1.0),
        SCALES,
        "Views of test-time augmentation, in evaluation (VALIDATION.USE_TTA) and of Stage 3's teacher.",
    ),
    "TTA_INFERENCE_CONFIDENCE_THRESHOLD": Key(
        0.5,
        FRACTION,
        "Lowest score of an instance under test-time augmentation; in Stage 3, of the first round.",
    ),
}
