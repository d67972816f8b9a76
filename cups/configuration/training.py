"""Section TRAINING: Stage 2, and what Stage 3 shares with it."""

from __future__ import annotations

from typing import Any

from cups.allowed import (
    BATCH,
    COUNT,
    DECAY,
    FRACTION,
    MINUTES,
    NOT_NEGATIVE,
    RATE,
    SHARE,
    SWITCH,
    WHOLE,
    Check,
    choice,
    is_list,
    is_number,
    optional,
)
from cups.configuration.key import Key
from cups.defaults import DROP_LOSS_IOU
from cups.training.choices import DECAYS, OPTIMIZERS, PRECISION_NAMES, TRAINABLE


def _are_betas(value: Any) -> bool:
    return is_list(value) and len(value) == 2 and all(is_number(beta) and 0 <= beta < 1 for beta in value)


TRAINING = {
    "TRAINABLE": Key(
        "all",
        choice(TRAINABLE),
        "What Stage 2 trains: the heads (with frozen BatchNorm), or all that is not frozen.",
    ),
    "STEPS": Key(4000, COUNT, "Optimisation steps of Stage 2."),
    "BATCH_SIZE": Key(16, BATCH, "Frames for each GPU and micro-batch."),
    "ACCUMULATE_GRAD_BATCHES": Key(1, COUNT, "Micro-batches of one optimisation step."),
    "PRECISION": Key(
        "bf16-mixed",
        choice(PRECISION_NAMES),
        "Of the network; auto is bf16 where the hardware has it, else 32.",
    ),
    "CHANNELS_LAST": Key(
        None,
        optional(
            SWITCH, "None (where it was measured to be faster: Stage 2 on a GPU, 4 images or more at once)"
        ),
        "Keep the channels of a pixel together in memory.",
    ),
    "COMPILE": Key(False, SWITCH, "Compile the trunk at its first use; may help on GPUs."),
    "GRADIENT_CLIP_ALGORITHM": Key("norm", choice(("norm", "value")), "What GRADIENT_CLIP_VAL limits."),
    "GRADIENT_CLIP_VAL": Key(1.0, NOT_NEGATIVE, "Largest gradient; 0 clips none."),
    "LOG_EVERY_N_STEPS": Key(10, COUNT, "Steps between two lines of the log."),
    "LOG_MEDIA_N_STEPS": Key(100, COUNT, "Steps between two pictures of what the network is shown."),
    "VAL_EVERY_N_STEPS": Key(200, COUNT, "Steps between two validations; each leaves a checkpoint."),
    "NUM_VAL_FRAMES": Key(
        None,
        optional(COUNT, "None (all)"),
        "Frames of each validation, spread evenly over the set; val.py scores all.",
    ),
    "SAVE_EVERY_N_MINUTES": Key(5.0, MINUTES, "Minutes between saves of last.ckpt; 0 saves each step."),
    "CLASS_WEIGHTING": Key(
        False, SWITCH, "Weight rare pseudo-classes in the semantic loss; Stage 3 keeps the weights."
    ),
    "OPTIMIZER": Key("adamw", choice(OPTIMIZERS), "Optimiser, with the keys of its own below."),
    "ADAMW.LEARNING_RATE": Key(1e-4, RATE, "Learning rate of AdamW."),
    "ADAMW.WEIGHT_DECAY": Key(1e-5, DECAY, "Weight decay of AdamW."),
    "ADAMW.BETAS": Key((0.9, 0.999), Check("two numbers, 0 or more and below 1", _are_betas), "Its moments."),
    "SGD.LEARNING_RATE": Key(0.005, RATE, "Learning rate of SGD."),
    "SGD.WEIGHT_DECAY": Key(5e-5, DECAY, "Weight decay of SGD."),
    "SGD.MOMENTUM": Key(0.9, FRACTION, "Momentum of SGD."),
    "WARMUP_STEPS": Key(
        0, WHOLE, "Steps in which the rate rises to its value; a network from scratch wants some."
    ),
    "DECAY": Key("constant", choice(DECAYS), "Course of the learning rate after that."),
    "LAYER_DECAY": Key(
        1.0, SHARE, "Factor of the learning rate from block to block downwards in a trained transformer."
    ),
    "DROP_LOSS": Key(
        True, SWITCH, "Leave proposals that overlap no pseudo-object out of the loss (DropLoss)."
    ),
    "DROP_LOSS_IOU_THRESHOLD": Key(DROP_LOSS_IOU, FRACTION, "Least overlap that counts there."),
}
