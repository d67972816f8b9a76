"""The configuration tree, its YAML and command line.

Precedence, lowest first: defaults (`cups/config_keys.py`), YAML (with `_BASE_`), `KEY VALUE` pairs, flags,
`KEY VALUE` pairs of the environment variable `CUPS_OPTS`.
Keys follow CUPS (Hahn et al., CVPR 2025); `tests/cups/test_config.py` checks that every key has a reader.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import logging
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from cups.allowed import read_path, shown
from cups.config_keys import KEYS, default_config, validate
from cups.configuration.key import Key
from cups.configuration.unread import unread
from cups.errors import UserError
from cups.io.files import atomic_write
from cups.io.shipped import find_config
from cups.io.yaml_files import BASE_KEY, load_yaml, read_layers, yaml_text

logger = logging.getLogger(__name__)

CHECK_FILE = f"check `experiment_config_file` and {BASE_KEY}"
EVALUATION_FILE = Path("val_cityscapes.yaml")
"""The shipped configuration of evaluations."""
OPTIONS_VARIABLE = "CUPS_OPTS"
"""Environment variable with `KEY VALUE` pairs that win over the command line."""


@dataclass(frozen=True)
class Flag:
    """A flag of the command line that sets keys.

    Attributes:
        name: without the dashes.
        keys: all of them get the flag's value.
        type: of the value.
        help: one phrase.
        constant: the value of a flag that takes none.
    """

    name: str
    keys: tuple[str, ...]
    type: type
    help: str
    constant: Any = None


# Groups of flags: a script takes those that it reads (`tests/test_entry_scripts.py` watches).
WORKERS = Flag("num_workers", ("SYSTEM.NUM_WORKERS",), int, "loader processes per GPU")
TRAINING_DATA = (
    Flag("data_root", ("DATA.ROOT",), str, "training images: Cityscapes root, or a folder of images"),
    WORKERS,
)
EVALUATION_DATA = (
    Flag("data_root", ("DATA.ROOT_VAL",), str, "images and ground truth: Cityscapes root"),
    WORKERS,
)
LABELS = (Flag("pseudo_root", ("DATA.ROOT_PSEUDO",), str, "pseudo-labels in the CUPS format"),)
TRUTH = (
    Flag(
        "ground_truth",
        ("DATA.GROUND_TRUTH",),
        bool,
        "learn from the ground truth of the training images, not from pseudo-labels",
        constant=True,
    ),
    Flag("label_fraction", ("DATA.LABEL_FRACTION",), float, "share of the frames whose ground truth is used"),
    Flag("trainable", ("TRAINING.TRAINABLE",), str, "what is trained: heads or all"),
)
OPTIMISATION = (
    Flag("batch_size", ("TRAINING.BATCH_SIZE",), int, "samples per GPU and step"),
    Flag(
        "lr",
        ("TRAINING.ADAMW.LEARNING_RATE", "TRAINING.SGD.LEARNING_RATE", "SELF_TRAINING.LEARNING_RATE"),
        float,
        "learning rate, of both stages",
    ),
    Flag("num_gpus", ("SYSTEM.NUM_GPUS",), int, "GPUs per node (processes, on CPU)"),
    Flag(
        "val_every",
        ("TRAINING.VAL_EVERY_N_STEPS", "SELF_TRAINING.VAL_EVERY_N_STEPS"),
        int,
        "steps between validations and checkpoints",
    ),
    Flag("accumulate_grad", ("TRAINING.ACCUMULATE_GRAD_BATCHES",), int, "micro-batches per step"),
    Flag("disable_wandb", ("SYSTEM.WANDB",), bool, "log to local files only", constant=False),
)
STEPS = (Flag("steps", ("TRAINING.STEPS",), int, "optimisation steps of Stage 2"),)
LOG_FOLDER = (Flag("log_path", ("SYSTEM.LOG_PATH",), str, "folder of all runs"),)
RUN_NAME = (Flag("run_name", ("SYSTEM.RUN_NAME",), str, "name of this run, its folder among them"),)
NETWORK = (Flag("checkpoint", ("MODEL.CHECKPOINT",), str, "checkpoint to start from or to evaluate"),)
EVALUATION = (
    Flag("batch_size", ("VALIDATION.BATCH_SIZE",), int, "frames of a forward pass"),
    Flag("classes", ("DATA.CLASSES",), str, "class file (YAML) of the ground truth"),
)

STAGE2_FLAGS = (TRAINING_DATA, LABELS, OPTIMISATION, STEPS, LOG_FOLDER, RUN_NAME, NETWORK)
TRAIN_FLAGS = (*STAGE2_FLAGS, TRUTH)
STAGE3_FLAGS = (TRAINING_DATA, OPTIMISATION, LOG_FOLDER, RUN_NAME, NETWORK)
VAL_FLAGS = (EVALUATION_DATA, EVALUATION, LOG_FOLDER, RUN_NAME, NETWORK)
EXPORT_FLAGS = (EVALUATION_DATA, EVALUATION, RUN_NAME, NETWORK)
FLAGS = tuple(flag for group in TRAIN_FLAGS for flag in group)
"""The flags of training."""


def _check_key(key: str, where: str) -> None:
    if key in KEYS:
        return
    near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.0)
    raise UserError(f"{where}: unknown key {key}; did you mean {near[0]}?")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of a nested mapping; the mapping that is a key's own value stays whole."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in KEYS:
            yield from flatten(value, f"{name}.")
        else:
            yield name, value


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file as {dotted key: value}, its bases first.

    Args:
        path: the file; its `_BASE_` is a path relative to it, or a list of them, of which later ones win.

    Raises:
        UserError: missing file, YAML that does not parse, an unknown key, or a circle of bases.
    """
    values: dict[str, Any] = {}
    for layer in read_layers(path, CHECK_FILE):
        own = dict(flatten(layer.content))
        for key in own:
            _check_key(key, str(layer.path))
        values |= own
    return values


def inheritance(path: Path) -> int:
    """Return the length of the longest chain from a YAML file to its last base, itself included."""
    return 1 + max(layer.above for layer in read_layers(path, CHECK_FILE))


def _literal(text: str) -> Any:
    """Read a number, tuple, mapping, None or boolean; any other text stays text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _as_default(key: Key, value: Any) -> Any:
    """Return a value in the form of its key's default.

    yacs refuses an int for a float key, and YAML reads `1e-4` as a string: both mean a number here. A mapping
    becomes KEY, value, KEY, value, ...: what detectron2 merges, and what checkpoints hold.
    """
    default = key.default
    if key.check.text and value is not None:
        return None if default is None and value == "None" else str(value)
    if isinstance(value, str) and not isinstance(default, str):
        value = _literal(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, tuple) and isinstance(value, dict):
        return tuple(part for pair in flatten(value) for part in pair)
    return value


def _merge(config: CfgNode, key: str, value: Any, where: str) -> None:
    """Set one key, typed like its default."""
    default = KEYS[key].default
    value = _as_default(KEYS[key], value)
    # yacs reads text as a literal: quoted, "32" stays the name of a precision.
    text = value is not None and (isinstance(default, str) or KEYS[key].check.text)
    try:
        config.merge_from_list([key, repr(str(value)) if text else value])
    except (ValueError, AssertionError, TypeError, MemoryError, RecursionError):
        kind = type(default).__name__
        raise UserError(f"{where}: {key} takes a value of type {kind}, not {shown(value)}") from None


def build_config(
    yaml_file: Path | str | None = None,
    pairs: Sequence[Any] = (),
    flags: Mapping[str, Any] | None = None,
    table: Iterable[Flag] = FLAGS,
    last: Sequence[Any] = (),
) -> CfgNode:
    """Merge defaults, YAML, `KEY VALUE` pairs, flags and last pairs (later wins) into a frozen tree.

    Args:
        yaml_file: config file.
        pairs: KEY, VALUE, KEY, VALUE, ...
        flags: {name: value}; None as a value leaves the flag out.
        table: what the flags set.
        last: pairs of the environment (`OPTIONS_VARIABLE`).

    Raises:
        UserError: unknown key (the nearest real one is named), wrong type, impossible value.
    """
    config = default_config()
    if yaml_file is not None:
        for key, value in read_yaml(find_config(Path(yaml_file))).items():
            _merge(config, key, value, str(yaml_file))
    _merge_pairs(config, pairs, "command line")
    for flag in table:
        value = (flags or {}).get(flag.name)
        if value is not None:
            for key in flag.keys:
                _merge(config, key, value, f"`{flag.name}`")
    _merge_pairs(config, last, OPTIONS_VARIABLE)
    validate(config)
    config.freeze()
    return config


def _merge_pairs(config: CfgNode, pairs: Sequence[Any], where: str) -> None:
    if len(pairs) % 2:
        raise UserError(f"{where}: {pairs[-1]} has no value; overrides come in pairs KEY VALUE")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        _check_key(key, where)
        _merge(config, key, value, where)


def options_of_environment() -> list[str]:
    """Return the words of `OPTIONS_VARIABLE`, KEY VALUE KEY VALUE ..., and log that they win.

    Raises:
        UserError: a quotation that does not end.
    """
    try:
        words = shlex.split(os.environ.get(OPTIONS_VARIABLE, ""))
    except ValueError as error:
        raise UserError(f"{OPTIONS_VARIABLE}: {error}; quote each value like a word of a shell") from None
    if words:
        logger.warning("%s overrides the command line: %s", OPTIONS_VARIABLE, shlex.join(words))
    return words


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that takes no shortened flags and keeps the lines of its description."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def add_config_arguments(
    parser: argparse.ArgumentParser, groups: Iterable[Sequence[Flag]] = STAGE2_FLAGS, script: str = ""
) -> None:
    """Add `--experiment_config_file`, `--print_config`, the flags of some groups and `KEY VALUE` pairs.

    script: name of its file, for `cups.configuration.unread`.
    """
    table = [flag for group in groups for flag in group]
    parser.set_defaults(config_flags=table, script=script)
    parser.add_argument("--experiment_config_file", type=read_path, help="YAML merged over the defaults")
    parser.add_argument("--print_config", action="store_true", help="print the resolved YAML and stop")
    for flag in table:
        if flag.constant is None:
            default = KEYS[flag.keys[0]].default
            about = f"{flag.help} ({', '.join(flag.keys)}; default: {default})"
            parser.add_argument(f"--{flag.name}", type=flag.type, help=about)
        else:
            about = f"{flag.help} ({', '.join(flag.keys)} {flag.constant})"
            parser.add_argument(f"--{flag.name}", action="store_const", const=flag.constant, help=about)
    parser.add_argument("pairs", nargs="*", metavar="KEY VALUE", help="overrides, e.g. DATA.NUM_CLASSES 27")


def add_resume_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--resume` and `--resume_if_possible`."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from last.ckpt of the run named by --log_path and --run_name",
    )
    parser.add_argument(
        "--resume_if_possible",
        action="store_true",
        # A job that SLURM has queued again gets the command line of its first start.
        default=os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0"),
        help="the same, but start afresh where there is no checkpoint (a requeued SLURM job does so anyway)",
    )


def add_image_folder(parser: argparse.ArgumentParser, about: str) -> None:
    """Add `--image_dir`, with `about` as its help, and the switch of its tracking."""
    parser.add_argument("--image_dir", type=read_path, help=about)
    parser.add_argument(
        "--no_tracking",
        dest="tracking",
        action="store_false",
        help="of --image_dir: number the objects of each frame anew",
    )


def parse_args(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> tuple[argparse.Namespace, CfgNode]:
    """Parse a command line made with `add_config_arguments`; return it and its config.

    Flags and `KEY VALUE` pairs may come in any order. `--print_config` ends the process.
    """
    args = parser.parse_intermixed_args(argv)
    if not getattr(args, "tracking", True) and not args.image_dir:
        parser.error("argument --no_tracking: goes with --image_dir")
    tell_unread(args.script, args.pairs[::2])
    config = build_config(
        args.experiment_config_file, args.pairs, vars(args), args.config_flags, options_of_environment()
    )
    if args.print_config:
        sys.stdout.write(to_yaml(config))
        parser.exit()
    return args, config


def config_like(args: argparse.Namespace, yaml_file: Path | None, keys: Mapping[str, Any]) -> CfgNode:
    """Return the configuration of another YAML file under a command line of `parse_args`.

    Args:
        args: the command line, which wins over the file.
        yaml_file: takes the place of `experiment_config_file`; None leaves that, or the evaluation on
            Cityscapes at full resolution where there is none.
        keys: further {dotted key: value}, which win over the file and lose to the command line.
    """
    pairs = [*(part for pair in keys.items() for part in pair), *args.pairs]
    last = shlex.split(os.environ.get(OPTIONS_VARIABLE, ""))
    file = yaml_file or args.experiment_config_file or EVALUATION_FILE
    return build_config(file, pairs, vars(args), args.config_flags, last)


def tell_unread(script: str, keys: Iterable[str]) -> None:
    """Warn of keys on the command line that a script does not read; a shared YAML may hold them."""
    for key in unread(script, keys):
        logger.warning("%s: no effect, %s does not read it", key, script)


def plain(config: CfgNode) -> dict[str, Any]:
    """Return the tree as plain dicts, lists and scalars (for YAML, JSON and checkpoints)."""
    return {key: _plain_value(value) for key, value in config.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, CfgNode):
        return plain(value)
    return [_plain_value(item) for item in value] if isinstance(value, (list, tuple)) else value


def to_yaml(config: CfgNode) -> str:
    """Return the resolved tree as YAML; it can be given back as a config file."""
    return yaml_text(plain(config))


def save_config(config: CfgNode, path: Path) -> None:
    """Write `to_yaml` to a file, atomically."""
    atomic_write(path, lambda temporary: temporary.write_text(to_yaml(config)))


def _read_saved(path: Path) -> dict[str, Any]:
    tree = load_yaml(path, "remove it, or choose another `run_name`")
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise UserError(f"{path}: damaged, so settings cannot be compared; remove it to go on without")
    return tree


def changed_settings(config: CfgNode, saved: Path) -> dict[str, tuple[Any, Any]]:
    """Return {dotted key: (before, now)} of what differs from a file of `save_config`; none without the file.

    A key that only one of them knows (another version wrote the file) is None in the other.
    """
    if not saved.is_file():
        return {}
    before, now = dict(flatten(_read_saved(saved))), dict(flatten(plain(config)))
    keys = dict.fromkeys((*now, *before))
    return {key: (before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)}
