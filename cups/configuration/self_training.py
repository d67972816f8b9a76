"""Section SELF_TRAINING: Stage 3."""

from __future__ import annotations

from typing import Any

from cups.allowed import (
    COUNT,
    CROP,
    FRACTION,
    RATE,
    SCALE,
    SWITCH,
    WHOLE,
    Check,
    choice,
    is_list,
    is_number,
    optional,
)
from cups.configuration.key import Key
from cups.io.file_names import IMAGE_FOLDERS
from cups.training.choices import DECAYS, ROUND_STARTS, SELECTIONS, TRAINABLE

AS_BEFORE = "None (as in Stage 2)"


def _are_heights(value: Any) -> bool:
    numbers = is_list(value) and all(map(is_number, value))
    return numbers and (not len(value) or (len(value) == 2 and 0 < value[0] <= value[1] <= 1))


SELF_TRAINING = {
    "ROUNDS": Key(3, COUNT, "Rounds; each asks more of the teacher's instances."),
    "ROUND_STEPS": Key(500, COUNT, "Optimisation steps of a round."),
    "CONFIDENCE_STEP": Key(
        0.05,
        FRACTION,
        "Round r, from 0, asks r * CONFIDENCE_STEP more than MODEL.TTA_INFERENCE_CONFIDENCE_THRESHOLD.",
    ),
    "SEMANTIC_SEGMENTATION_THRESHOLD": Key(
        0.5, FRACTION, "Share of a class's highest probability in the image below which a pixel is void."
    ),
    "EMA_MOMENTUM": Key(0.999, FRACTION, "What the teacher keeps of itself at each step."),
    "USE_TTA": Key(True, SWITCH, "The teacher sees several sizes (MODEL.TTA_SCALES) and mirror images."),
    "TRAINABLE": Key(
        "heads", choice(TRAINABLE), "What is trained: the heads (CUPS), or all that is not frozen."
    ),
    "DRAW_CLASSES": Key(
        False, SWITCH, "The class of a teacher's object is drawn by its probabilities, not the most probable."
    ),
    "ROUND_START": Key("keep", choice(ROUND_STARTS), "Which weights are copied when a round begins."),
    "IMAGES": Key("leftImg8bit", choice(IMAGE_FOLDERS), "Folder of the images in the Cityscapes layout."),
    "CROP_HEIGHTS": Key(
        (0.5, 1.0),
        Check("two rising shares of the height, or ()", _are_heights),
        "Range of the height of the student's random crop; () crops nothing.",
    ),
    "SELECT": Key(
        "consistency",
        choice(SELECTIONS),
        "What best.ckpt is chosen by: agreement between views, the last round, or ground truth (val).",
    ),
    "SELECT_FRAMES": Key(32, COUNT, "Training images held out for that choice."),
    "WARMUP_STEPS": Key(0, WHOLE, "As TRAINING.WARMUP_STEPS."),
    "DECAY": Key("constant", choice(DECAYS), "As TRAINING.DECAY."),
    "USE_DROP_LOSS": Key(False, SWITCH, "As TRAINING.DROP_LOSS."),
    "LEARNING_RATE": Key(None, optional(RATE, AS_BEFORE), "Learning rate, of either optimiser."),
    "VAL_EVERY_N_STEPS": Key(None, optional(COUNT, AS_BEFORE), "As TRAINING.VAL_EVERY_N_STEPS."),
    "SCALE": Key(None, optional(SCALE, AS_BEFORE), "As DATA.SCALE."),
    "CROP_RESOLUTION": Key(None, optional(CROP, AS_BEFORE), "As DATA.CROP_RESOLUTION."),
}
