"""Section AUGMENTATION: what happens to a training batch on the device."""

from __future__ import annotations

from cups.allowed import COUNT, FRACTION, ROWS, SIZE, SWITCH, WHOLE, each
from cups.configuration.key import Key

AUGMENTATION = {
    "COPY_PASTE": Key(
        True, SWITCH, "Paste objects of the batch, later the network's own finds, into its images."
    ),
    "MAX_NUM_PASTED_OBJECTS": Key(8, COUNT, "Most objects that are pasted into an image."),
    "MIN_PASTED_SIDE": Key(32, ROWS, "Only objects larger than this on both sides are copied, in pixels."),
    "NUM_STEPS_STARTUP": Key(500, WHOLE, "Step from which the network's own finds are pasted."),
    "CONFIDENCE": Key(0.75, FRACTION, "Score that a find must exceed to be pasted."),
    "RESOLUTIONS": Key(
        tuple((384 + 32 * i, 768 + 64 * i) for i in range(11)),
        each(SIZE, "a list of (height, width)", least=0),
        "Sizes of which each optimisation step gets one (CUPS, for crops of 640 x 1280); () keeps that of "
        "the crop.",
    ),
    "BLUR_PROBABILITY": Key(0.5, FRACTION, "Chance that an image is blurred (CUPS: 1)."),
}
