"""Section DATA: where frames and labels lie, and what happens to them before augmentation."""

from __future__ import annotations

from cups import defaults
from cups.allowed import (
    COUNT,
    CROP,
    FRACTION,
    NAME,
    PATH,
    PATTERN,
    SCALE,
    SHARE,
    SIZE,
    SWITCH,
    Check,
    choice,
    optional,
)
from cups.configuration.key import Key
from cups.set_files import is_set_name, shipped_names
from cups.taxonomy import CLASS_COUNTS

DATA = {
    "DATASET": Key(
        "cityscapes",
        Check(
            f"{', '.join(shipped_names())}, or a YAML file that describes yours",
            is_set_name,
            f"choose from {', '.join(shipped_names())}, or give a YAML file that describes yours",
            text=True,
        ),
        "Data set of the evaluation: where its files lie, how they are read, what its classes are.",
    ),
    "ROOT": Key(
        "datasets/Cityscapes", PATH, "Training images: the Cityscapes layout, or any folder of images."
    ),
    "ROOT_VAL": Key(
        None,
        optional(PATH, "None (DATA.ROOT; training validates there if it has ground truth)"),
        "Images and ground truth of the evaluation. Training needs none.",
    ),
    "ROOT_PSEUDO": Key(
        None, optional(PATH, "None (Stage 2 needs one)"), "Pseudo-labels of Stage 2, in the CUPS format."
    ),
    "FIT": Key(
        defaults.FIT,
        choice(defaults.FITS),
        "scale: SCALE and a centre crop, padded to CROP_RESOLUTION (CUPS). auto: the same for frames of "
        "1024 x 2048, and where SCALE makes frames as large as the crop; others are brought down to the "
        "crop's height, and cut at a place drawn anew each time, by a crop no larger than they are.",
    ),
    "CROP_RESOLUTION": Key(
        defaults.CROP, CROP, "Crop of training frames after scaling, in pixels; the largest, with FIT auto."
    ),
    "SCALE": Key(defaults.SCALE, SCALE, "Factor by which training frames are resized, see FIT."),
    "VAL_SCALE": Key(0.5, SCALE, "Factor by which evaluation frames are resized, with their ground truth."),
    "VAL_CROP_RESOLUTION": Key(
        None, optional(SIZE), "Centre crop of evaluation frames after scaling, in pixels."
    ),
    "VAL_FRAMES": Key(
        None,
        optional(PATTERN, "None (all, or those of the data set's description)"),
        "Pattern of the names of evaluation frames, as in a shell: `*fog/night/*`.",
    ),
    "VAL_SPLIT": Key(defaults.VAL_SPLIT, NAME, "Split of the evaluation."),
    "NUM_CLASSES": Key(
        defaults.NUM_CLASSES, choice(CLASS_COUNTS), "Ground-truth classes that pseudo-classes are matched to."
    ),
    "CLASSES": Key(
        None,
        optional(PATH, "None (the data set's, in NUM_CLASSES)"),
        "Class file (YAML) of the ground truth, in place of NUM_CLASSES.",
    ),
    "THING_STUFF_THRESHOLD": Key(
        None,
        optional(FRACTION, f"None (the labels' own split; without one {defaults.THING_STUFF_THRESHOLD})"),
        "Pseudo-classes with a larger share of pixels inside proposals (the shares sum to 1) are things; "
        "overrides the split beside the labels.",
    ),
    "IGNORE_UNKNOWN_THING_REGIONS": Key(
        defaults.IGNORE_UNKNOWN_THINGS,
        SWITCH,
        'Pixels of things outside every proposal are void, not "some thing".',
    ),
    "ONLY_NON_EMPTY_SAMPLES": Key(
        defaults.ONLY_NON_EMPTY, SWITCH, "Leave out training frames without an instance."
    ),
    "GROUND_TRUTH": Key(
        False,
        SWITCH,
        "Stage 2 learns from the ground truth of DATA.ROOT (split train), not from pseudo-labels; "
        "the network is no longer unsupervised, and says so.",
    ),
    "LABEL_FRACTION": Key(
        1.0, SHARE, "Share of the frames whose ground truth is used, chosen by SYSTEM.SEED."
    ),
    "MAX_IMAGES": Key(None, optional(COUNT, "None (all)"), "Use the first frames of the training data only."),
}
