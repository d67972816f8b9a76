"""What decides a command beside its words: its configuration as it is resolved, and the weights it reads."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from cups.errors import UserError
from cups.io.files import file_sha256
from cups.io.model_folder import weights_file
from pseudo_labels.steps.stage1 import Command

CONFIG_FLAG, WEIGHTS_FLAG = "--experiment_config_file", "--checkpoint"
IDLE = (
    *("SYSTEM.ACCELERATOR", "SYSTEM.NUM_WORKERS", "SYSTEM.LOG_PATH", "SYSTEM.RUN_NAME", "SYSTEM.WANDB"),
    *("TRAINING.LOG_", "TRAINING.SAVE_", "MODEL.GRADIENT_CHECKPOINTING"),
)
"""Keys, or starts of keys, that change no number."""


def value_of(arguments: Sequence[str], flag: str) -> str | None:
    """Return the word behind a flag (the last one, if it is given twice), None without it."""
    places = [place for place, word in enumerate(arguments[:-1]) if word == flag]
    return arguments[places[-1] + 1] if places else None


def settings_of(command: Command) -> dict[str, Any]:
    """Return {dotted key: value}: what the configuration file says, with its bases, over the defaults.

    Keys that the script does not read, or that change no number, are left out; so are the command's own
    words, which its record holds. Empty without a file.

    Raises:
        UserError: a file that cannot be read.
    """
    file = value_of(command.arguments, CONFIG_FLAG)
    if file is None:
        return {}
    from cups.config import OPTIONS_VARIABLE, build_config, flatten, plain
    from cups.configuration.unread import unread

    last = shlex.split(os.environ.get(OPTIONS_VARIABLE, ""))
    settings = dict(flatten(plain(build_config(file, last=last))))
    idle = set(unread(command.script, settings))
    kept = {key: value for key, value in settings.items() if key not in idle and not key.startswith(IDLE)}
    read: dict[str, Any] = json.loads(json.dumps(kept))  # as a record holds them
    return read


def weights_of(command: Command) -> dict[str, str]:
    """Return {path: digest} of the checkpoint that a command starts from or scores, as it is now.

    Empty without one. A file that is not there has the digest "".
    """
    path = value_of(command.arguments, WEIGHTS_FLAG)
    if path is None:
        return {}
    file = weights_file(Path(path))
    if not file.is_file():
        return {path: ""}
    state = file.stat()
    return {path: _digest(path, state.st_mtime_ns, state.st_size)}


@lru_cache(maxsize=4096)
def _digest(path: str, changed: int, size: int) -> str:
    from cups.io.checkpoint import load_checkpoint, weights_digest

    try:
        return weights_digest(load_checkpoint(path))
    except UserError:  # another kind of file, or damaged: its reader says so
        return file_sha256(weights_file(Path(path)))


def differences(
    settings: Mapping[str, Any],
    weights: Mapping[str, str],
    now: Mapping[str, Any],
    weights_now: Mapping[str, str],
) -> list[str]:
    """Return in words what has changed since a command was done; nothing where its record does not tell.

    A key that is younger than the record had its default value then. A key or a checkpoint that is gone is
    passed over: results may outlive the network.
    """
    from cups.config_keys import KEYS

    changed = []
    for key in now if settings else ():  # a record of an earlier version tells none
        default = json.loads(json.dumps(KEYS[key].default))
        if (before := settings.get(key, default)) != now[key]:
            changed.append(f"{key} was {before}, now {now[key]}")
    both = [path for path, digest in weights.items() if digest and weights_now.get(path)]
    return changed + [f"other weights in {path}" for path in both if weights_now[path] != weights[path]]
