"""Values that stand in a public class and in the configuration alike: both take them from here."""

from __future__ import annotations

from typing import Final, Literal, get_args

CONFIDENCE_THRESHOLD = 0.5
"""Lowest score of a detection, and of an instance in the panoptic map (CUPS)."""

DROP_LOSS_IOU = 0.4
"""Proposals that overlap every pseudo-object less are left out of the loss (CUPS; CutLER has 0.01)."""

FREEZE_BACKBONE = True
GRADIENT_CHECKPOINTING = False
"""Of a transformer: train pyramid and heads alone; compute activations twice instead of keeping them."""

SCALE = 0.625
"""Factor that brings Cityscapes' 1024 x 2048 to training size (CUPS)."""

CROP = (640, 1280)
"""(H, W) of the centre crop after scaling."""

Fitting = Literal["auto", "scale"]
FITS: tuple[str, ...] = get_args(Fitting)
FIT: Final = "auto"
"""How training frames are brought to one size, see `cups.data.fit.choose_fit`."""

THING_STUFF_THRESHOLD = 0.08
"""Pseudo-classes with a larger normalised share of pixels inside proposals are things (CUPS)."""

IGNORE_UNKNOWN_THINGS = False
ONLY_NON_EMPTY = True
"""What becomes of thing pixels outside proposals, and of frames without a proposal."""

VAL_SPLIT = "val"
NUM_CLASSES = 19
"""What is evaluated: the split, and the ground-truth classes that a prediction is matched to."""

VOID_RULE: Final = "standard"
"""The rule of Kirillov et al. (2019), see `cups.metrics.protocol.VOID_RULES`."""
