"""The configuration tree, its YAML and command line.

Precedence, lowest first: defaults (`cups/config_keys.py`), YAML (with `_BASE_`), `KEY VALUE` pairs, flags.
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

from cups.config_keys import default_config, get, leaf_keys, validate
from cups.errors import UserError
from cups.io.files import atomic_write

BASE_KEY = "_BASE_"


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


def changed_settings(config: CfgNode, saved: Path) -> dict[str, tuple[Any, Any]]:
    """Return {dotted key: (before, now)} of what differs from a file of `save_config`; none without the file.

    A key that only one of them knows (another version wrote the file) is None in the other.
    """
    if not saved.is_file():
        return {}
    before, now = dict(_flatten(yaml.safe_load(saved.read_text()) or {})), dict(_flatten(plain(config)))
    keys = dict.fromkeys((*now, *before))
    return {key: (before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)}
