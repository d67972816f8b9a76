"""The configuration tree, its YAML and command line.

Precedence, lowest first: defaults below, YAML (with `_BASE_`), `KEY VALUE` pairs, flags.
Keys follow CUPS (Hahn et al., CVPR 2025); `tests/cups/test_config.py` checks that every key has a reader.
"""

from __future__ import annotations

import argparse
import ast
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from cups.errors import UserError
from cups.ops.png import atomic_write

BASE_KEY = "_BASE_"


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


@dataclass(frozen=True)
class Flag:
    """One row of the table flag -> keys."""

    name: str
    keys: tuple[str, ...]
    type: type
    help: str


FLAGS: tuple[Flag, ...] = (
    Flag("data_root", ("DATA.ROOT", "DATA.ROOT_VAL"), str, "Cityscapes root"),
    Flag("pseudo_root", ("DATA.ROOT_PSEUDO",), str, "pseudo-labels in the CUPS format"),
    Flag("batch_size", ("TRAINING.BATCH_SIZE",), int, "samples per GPU and step"),
    Flag(
        "lr",
        ("TRAINING.ADAMW.LEARNING_RATE", "TRAINING.SGD.LEARNING_RATE", "SELF_TRAINING.LEARNING_RATE"),
        float,
        "learning rate, of both stages",
    ),
    Flag("steps", ("TRAINING.STEPS",), int, "optimisation steps of Stage 2"),
    Flag("num_gpus", ("SYSTEM.NUM_GPUS",), int, "GPUs per node (processes, on CPU)"),
    Flag("num_workers", ("SYSTEM.NUM_WORKERS",), int, "loader processes per GPU"),
    Flag("log_path", ("SYSTEM.LOG_PATH",), str, "folder of all runs"),
    Flag("run_name", ("SYSTEM.RUN_NAME",), str, "folder of this run inside it"),
    Flag(
        "val_every",
        ("TRAINING.VAL_EVERY_N_STEPS", "SELF_TRAINING.VAL_EVERY_N_STEPS"),
        int,
        "steps between validations and checkpoints",
    ),
    Flag("accumulate_grad", ("TRAINING.ACCUMULATE_GRAD_BATCHES",), int, "micro-batches per step"),
    Flag("checkpoint", ("MODEL.CHECKPOINT",), str, "checkpoint to start from or to evaluate"),
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


def _check_key(key: str, where: str) -> None:
    known = list(leaf_keys(default_config()))
    if key in known:
        return
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    raise UserError(f"{where}: unknown key {key}; did you mean {near[0]}?")


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key), value


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file as {dotted key: value}, its `_BASE_` (a path relative to it) first.

    Raises:
        UserError: missing file, YAML that does not parse, or a circle of bases.
    """
    values: dict[str, Any] = {}
    chain: list[tuple[Path, dict[str, Any]]] = []
    current: Path | None = path
    while current is not None:
        if not current.is_file():
            raise UserError(f"{current}: no such config; check --experiment_config_file and {BASE_KEY}")
        if current.resolve() in [done.resolve() for done, _ in chain]:
            raise UserError(f"{current}: {BASE_KEY} leads back to itself; remove one of the links")
        try:
            tree = yaml.safe_load(current.read_text()) or {}
        except yaml.YAMLError as error:
            raise UserError(f"{current}: not valid YAML ({' '.join(str(error).split())})") from None
        if not isinstance(tree, dict):
            raise UserError(f"{current}: holds no sections; a config looks like 'TRAINING: {{STEPS: 100}}'")
        base = tree.pop(BASE_KEY, None)
        chain.append((current, tree))
        current = current.parent / base if base is not None else None
    for file, tree in reversed(chain):
        for key, value in _flatten(tree):
            _check_key(key, str(file))
            values[key] = value
    return values


def _literal(text: str) -> Any:
    """Read a number, tuple, None or boolean; any other text stays text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _merge(config: CfgNode, key: str, value: Any, where: str) -> None:
    """Set one key, typed like its default.

    yacs refuses an int for a float key, and YAML reads `1e-4` as a string: both mean a number here.
    """
    default = get(config, key)
    if isinstance(value, str) and not isinstance(default, str):
        value = _literal(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    # yacs reads text as a literal: quoted, "32" stays the name of a precision.
    text = isinstance(default, str) and value is not None
    try:
        config.merge_from_list([key, repr(str(value)) if text else value])
    except (ValueError, AssertionError):
        kind = type(default).__name__
        raise UserError(f"{where}: {key} takes a value of type {kind}, not {value!r}") from None


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


def build_config(
    yaml_file: Path | str | None = None,
    pairs: Sequence[Any] = (),
    flags: dict[str, Any] | None = None,
) -> CfgNode:
    """Merge defaults, YAML, `KEY VALUE` pairs and flags (later wins) into a frozen tree.

    Raises:
        UserError: unknown key (the nearest real one is named), wrong type, impossible value.
    """
    config = default_config()
    if yaml_file is not None:
        for key, value in read_yaml(Path(yaml_file)).items():
            _merge(config, key, value, str(yaml_file))
    if len(pairs) % 2:
        raise UserError(f"command line: {pairs[-1]} has no value; overrides come in pairs KEY VALUE")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        _check_key(key, "command line")
        _merge(config, key, value, "command line")
    for flag in FLAGS:
        value = (flags or {}).get(flag.name)
        if value is not None:
            for key in flag.keys:
                _merge(config, key, value, f"--{flag.name}")
    validate(config)
    config.freeze()
    return config


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--experiment_config_file`, `--disable_wandb`, the flag table and free `KEY VALUE` pairs."""
    defaults = default_config()
    parser.add_argument("--experiment_config_file", help="YAML merged over the defaults")
    parser.add_argument("--disable_wandb", action="store_true", help="log to local files only")
    for flag in FLAGS:
        about = f"{flag.help} ({', '.join(flag.keys)}; default: {get(defaults, flag.keys[0])})"
        parser.add_argument(f"--{flag.name}", type=flag.type, default=argparse.SUPPRESS, help=about)
    parser.add_argument("pairs", nargs="*", metavar="KEY VALUE", help="overrides, e.g. TRAINING.STEPS 100")


def parse_args(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> tuple[argparse.Namespace, CfgNode]:
    """Parse a command line made with `add_config_arguments`; return it and its config.

    Flags and `KEY VALUE` pairs may come in any order.
    """
    args = parser.parse_intermixed_args(argv)
    pairs = list(args.pairs)
    if args.disable_wandb:
        pairs += ["SYSTEM.WANDB", False]
    return args, build_config(args.experiment_config_file, pairs, vars(args))


def plain(config: CfgNode) -> dict[str, Any]:
    """Return the tree as plain dicts, lists and scalars (for YAML, JSON and checkpoints)."""
    return {key: _plain_value(value) for key, value in config.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, CfgNode):
        return plain(value)
    return [_plain_value(item) for item in value] if isinstance(value, (list, tuple)) else value


def save_config(config: CfgNode, path: Path) -> None:
    """Write the resolved tree as YAML, atomically; it can be given back as a config file."""
    atomic_write(path, lambda temporary: temporary.write_text(yaml.safe_dump(plain(config), sort_keys=False)))
