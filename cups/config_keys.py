"""The keys of the configuration, their defaults, and the values they may take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from yacs.config import CfgNode

from cups.errors import UserError


def default_config() -> CfgNode:
    """Return the default tree. A key whose default is None takes any value."""
    return CfgNode(
        {
            "SYSTEM": {
                "ACCELERATOR": "auto",
                "NUM_GPUS": 1,
                "NUM_NODES": 1,
                "NUM_WORKERS": 8,
                "DISTRIBUTED_BACKEND": "auto",
                "LOG_PATH": "experiments",
                "RUN_NAME": None,
                "SEED": 1996,
                "WANDB": True,
                "WANDB_PROJECT": "Unsupervised Panoptic Segmentation",
            },
            "MODEL": {
                # "resnet50", or a name of cups.backbones: the transformer keys hold for those.
                "BACKBONE_TYPE": "resnet50",
                "FREEZE_BACKBONE": True,
                "GRADIENT_CHECKPOINTING": False,
                # A Detectron2 YAML in cups/model/ (or a path), None: that of the backbone type; then
                # overrides in its own KEY VALUE form.
                "CONFIG": None,
                "OVERRIDES": (),
                "USE_DINO": True,
                "BACKBONE_CHECKPOINT": None,
                "CHECKPOINT": None,
                "INFERENCE_CONFIDENCE_THRESHOLD": 0.5,
                # Test-time augmentation, of evaluation (VALIDATION.USE_TTA) and of Stage 3's teacher.
                "TTA_SCALES": (0.5, 0.75, 1.0),
                "TTA_INFERENCE_CONFIDENCE_THRESHOLD": 0.5,
            },
            "DATA": {
                "DATASET": "cityscapes",
                "ROOT": "datasets/Cityscapes",
                "ROOT_VAL": "datasets/Cityscapes",
                "ROOT_PSEUDO": "pseudo_labels",
                "CROP_RESOLUTION": (640, 1280),
                "SCALE": 0.625,
                "VAL_SCALE": 0.5,
                "VAL_CROP_RESOLUTION": None,
                "VAL_SPLIT": "val",
                "NUM_CLASSES": 19,
                "THING_STUFF_THRESHOLD": 0.08,
                "IGNORE_UNKNOWN_THING_REGIONS": False,
                "ONLY_NON_EMPTY_SAMPLES": True,
                "MAX_IMAGES": None,
            },
            "TRAINING": {
                "STEPS": 4000,
                "BATCH_SIZE": 16,
                "ACCUMULATE_GRAD_BATCHES": 1,
                "PRECISION": "bf16-mixed",
                # See cups.model.speed.set_speed; for GPUs.
                "CHANNELS_LAST": False,
                "COMPILE": False,
                "GRADIENT_CLIP_ALGORITHM": "norm",
                "GRADIENT_CLIP_VAL": 1.0,
                "LOG_EVERY_N_STEPS": 10,
                "LOG_MEDIA_N_STEPS": 100,
                "VAL_EVERY_N_STEPS": 200,
                "CLASS_WEIGHTING": False,
                "OPTIMIZER": "adamw",
                "ADAMW": {"LEARNING_RATE": 1e-4, "WEIGHT_DECAY": 1e-5, "BETAS": (0.9, 0.999)},
                "SGD": {"LEARNING_RATE": 0.005, "WEIGHT_DECAY": 5e-5, "MOMENTUM": 0.9},
                # Upstream: constant rate, no warm-up. A model trained from scratch wants both.
                "WARMUP_STEPS": 0,
                "DECAY": "constant",
                # Of a transformer that is trained: factor of the learning rate from block to block downwards.
                "LAYER_DECAY": 1.0,
                "DROP_LOSS": True,
                "DROP_LOSS_IOU_THRESHOLD": 0.4,
            },
            "SELF_TRAINING": {
                "ROUNDS": 3,
                "ROUND_STEPS": 500,
                # Round r asks MODEL.TTA_INFERENCE_CONFIDENCE_THRESHOLD + r * CONFIDENCE_STEP of an instance.
                "CONFIDENCE_STEP": 0.05,
                "SEMANTIC_SEGMENTATION_THRESHOLD": 0.5,
                "EMA_MOMENTUM": 0.999,
                "USE_TTA": True,
                "TRAINABLE": "heads",
                "ROUND_START": "keep",
                "IMAGES": "leftImg8bit",
                "CROP_HEIGHTS": (0.5, 1.0),
                "SELECT": "consistency",
                "SELECT_FRAMES": 32,
                "WARMUP_STEPS": 0,
                "DECAY": "constant",
                "USE_DROP_LOSS": False,
                # None: as in Stage 2 (TRAINING.*, DATA.*).
                "LEARNING_RATE": None,
                "VAL_EVERY_N_STEPS": None,
                "SCALE": None,
                "CROP_RESOLUTION": None,
            },
            "AUGMENTATION": {
                "COPY_PASTE": True,
                "MAX_NUM_PASTED_OBJECTS": 8,
                "MIN_PASTED_SIDE": 32,
                "NUM_STEPS_STARTUP": 500,
                "CONFIDENCE": 0.75,
                "RESOLUTIONS": tuple((384 + 32 * i, 768 + 64 * i) for i in range(11)),
                "BLUR_PROBABILITY": 0.5,
            },
            "VALIDATION": {
                "ADHERE_THING_STUFF": True,
                "BATCH_SIZE": 4,
                "VOID_RULE": "standard",
                "SEMSEG_CENTER_CROP_SIZE": None,
                "USE_TTA": False,
                "USE_CRF": False,
            },
        }
    )


POSITIVE = (
    "TRAINING.STEPS",
    "TRAINING.BATCH_SIZE",
    "TRAINING.ACCUMULATE_GRAD_BATCHES",
    "TRAINING.VAL_EVERY_N_STEPS",
    "TRAINING.LOG_EVERY_N_STEPS",
    "TRAINING.LOG_MEDIA_N_STEPS",
    "TRAINING.ADAMW.LEARNING_RATE",
    "TRAINING.SGD.LEARNING_RATE",
    "SYSTEM.NUM_GPUS",
    "SYSTEM.NUM_NODES",
    "TRAINING.LAYER_DECAY",
    "DATA.SCALE",
    "DATA.VAL_SCALE",
    "VALIDATION.BATCH_SIZE",
    "SELF_TRAINING.ROUNDS",
    "SELF_TRAINING.ROUND_STEPS",
    "SELF_TRAINING.SELECT_FRAMES",
)
FRACTIONS = (
    "MODEL.INFERENCE_CONFIDENCE_THRESHOLD",
    "DATA.THING_STUFF_THRESHOLD",
    "TRAINING.DROP_LOSS_IOU_THRESHOLD",
    "AUGMENTATION.CONFIDENCE",
    "AUGMENTATION.BLUR_PROBABILITY",
    "MODEL.TTA_INFERENCE_CONFIDENCE_THRESHOLD",
    "SELF_TRAINING.CONFIDENCE_STEP",
    "SELF_TRAINING.SEMANTIC_SEGMENTATION_THRESHOLD",
    "SELF_TRAINING.EMA_MOMENTUM",
)
POSITIVE_OR_NONE = (
    "SELF_TRAINING.LEARNING_RATE",
    "SELF_TRAINING.VAL_EVERY_N_STEPS",
    "SELF_TRAINING.SCALE",
)
CHOICES: dict[str, tuple[Any, ...]] = {
    "MODEL.BACKBONE_TYPE": (
        *("resnet50", "dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14"),
        *("dinov3_vits16", "dinov3_vitb16", "texton"),
    ),
    "DATA.NUM_CLASSES": (27, 19, 7),
    "DATA.DATASET": ("cityscapes", "kitti"),
    "TRAINING.OPTIMIZER": ("adamw", "sgd"),
    "TRAINING.PRECISION": (
        *("auto", "bf16", "fp16", "16", "fp32", "32"),
        *("bf16-mixed", "16-mixed", "32-true"),
    ),
    "TRAINING.DECAY": ("constant", "cosine"),
    "TRAINING.GRADIENT_CLIP_ALGORITHM": ("norm", "value"),
    "VALIDATION.VOID_RULE": ("standard", "upstream"),
    "SELF_TRAINING.TRAINABLE": ("heads", "all"),
    "SELF_TRAINING.ROUND_START": ("keep", "teacher_to_student", "student_to_teacher"),
    "SELF_TRAINING.IMAGES": ("leftImg8bit", "leftImg8bit_sequence"),
    "SELF_TRAINING.SELECT": ("consistency", "last", "val"),
    "SELF_TRAINING.DECAY": ("constant", "cosine"),
}


def leaf_keys(config: CfgNode, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of the tree."""
    for key, value in config.items():
        if isinstance(value, CfgNode):
            yield from leaf_keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def get(config: CfgNode, key: str) -> Any:
    """Return the value of a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def validate(config: CfgNode) -> None:
    """Refuse impossible values by the name of their key.

    Raises:
        UserError: with the key, the value and what is allowed.
    """
    for key in POSITIVE:
        if not get(config, key) > 0:
            raise UserError(f"{key} is {get(config, key)}; it must be above 0")
    for key in FRACTIONS:
        if not 0 <= get(config, key) <= 1:
            raise UserError(f"{key} is {get(config, key)}; it must lie in 0-1")
    for key, allowed in CHOICES.items():
        if get(config, key) not in allowed:
            raise UserError(f"{key} is {get(config, key)!r}; choose from {', '.join(map(str, allowed))}")
    for key in POSITIVE_OR_NONE:
        value = get(config, key)
        if value is not None and not (isinstance(value, int | float) and value > 0):
            raise UserError(f"{key} is {value!r}; it must be a number above 0, or None")
    if config.MODEL.BACKBONE_TYPE == "texton" and not config.MODEL.FREEZE_BACKBONE:
        raise UserError(
            "MODEL.FREEZE_BACKBONE is False, but the texton backbone has no weights to train; leave it True"
        )
    _check_tuples(config)


def _check_tuples(config: CfgNode) -> None:
    for key in ("DATA.CROP_RESOLUTION", "SELF_TRAINING.CROP_RESOLUTION"):
        crop = get(config, key)
        if crop is not None and (not isinstance(crop, tuple | list) or len(crop) != 2 or min(crop) < 32):
            raise UserError(f"{key} is {crop}; it must be (height, width), each 32 or more")
    if min(config.MODEL.TTA_SCALES, default=0.0) <= 0:
        raise UserError(f"MODEL.TTA_SCALES is {config.MODEL.TTA_SCALES}; it must be scales above 0")
    heights = config.SELF_TRAINING.CROP_HEIGHTS
    if len(heights) and not (len(heights) == 2 and 0 < heights[0] <= heights[1] <= 1):
        raise UserError(
            f"SELF_TRAINING.CROP_HEIGHTS is {heights}; it must be two rising shares of the height, or ()"
        )
