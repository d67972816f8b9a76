"""What a setting of training may be, where it has a name: listed once, for code and configuration."""

from __future__ import annotations

from typing import Literal, get_args

PRECISIONS = {"bf16": "bf16-mixed", "fp16": "16-mixed", "16": "16-mixed", "fp32": "32-true", "32": "32-true"}
"""Short names of precisions, and Lightning's."""

Decay = Literal["constant", "cosine"]
OptimizerName = Literal["adamw", "sgd"]
Trainable = Literal["heads", "all"]
"""What self-training trains, see `cups.training.self_training.select_trainable`."""
RoundStart = Literal["keep", "teacher_to_student", "student_to_teacher"]
"""What happens when a round of self-training begins, see `cups.pl_model_self.SelfTrainingModule`."""
Selection = Literal["consistency", "last", "val"]
"""What the kept round is chosen by, see `cups.training.round_selection`."""


DECAYS: tuple[str, ...] = get_args(Decay)
OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)
TRAINABLE: tuple[str, ...] = get_args(Trainable)
ROUND_STARTS: tuple[str, ...] = get_args(RoundStart)
SELECTIONS: tuple[str, ...] = get_args(Selection)
PRECISION_NAMES = ("auto", *PRECISIONS, *dict.fromkeys(PRECISIONS.values()))
