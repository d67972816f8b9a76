"""Weights of a backbone alone, whatever names its publisher gave them."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from cups.errors import UserError
from cups.io.checkpoint import State, as_tensor, is_counter, read_file

log = logging.getLogger(__name__)

TRUNK_PREFIX = "backbone.bottom_up."


def _trunk_name(name: str) -> str | None:
    """Translate a torchvision ResNet name to detectron2's; other names stay, the classifier gives None."""
    if re.match(r"(.*\.)?(fc|head)\.", name):
        return None
    name = re.sub(r"^(?:.*\.)?layer(\d)\.", lambda m: f"res{int(m.group(1)) + 1}.", name)
    name = re.sub(r"^(?:(?:module|backbone|encoder|encoder_q)\.)*(conv1|bn1)\.", r"stem.\1.", name)
    name = re.sub(r"\bbn(\d)\.", r"conv\1.norm.", name)
    return name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")


def load_trunk(model: nn.Module, path: str | Path) -> None:
    """Initialise the ResNet of a panoptic network from self-supervised weights (Caron et al., DINO, 2021).

    Reads Detectron2 pickles (names attached by their longest common suffix) and torchvision-named torch
    files. FPN and heads keep their random weights.

    Raises:
        UserError: if any tensor of the ResNet finds no partner of its shape.
    """
    path = Path(path)
    content = read_file(path)
    weights = content if isinstance(content, Mapping) else {}
    for key in ("model", "state_dict", "teacher", "student"):
        if isinstance(weights.get(key), Mapping):
            weights = weights[key]
            break
    source: State = {}
    for name, value in weights.items():
        translated = _trunk_name(str(name)) if isinstance(value, (Tensor, np.ndarray)) else None
        if translated is not None:
            source[translated] = as_tensor(value)
    trunk = {name: value for name, value in model.state_dict().items() if name.startswith(TRUNK_PREFIX)}
    matched = match_suffixes(trunk, source)
    wrong = [
        name
        for name, value in trunk.items()
        if not is_counter(name) and (name not in matched or matched[name].shape != value.shape)
    ]
    if not trunk or wrong:
        raise UserError(
            f"{path}: does not fit the network's ResNet ({len(wrong)} of {len(trunk)} tensors, "
            f"as {wrong[0] if wrong else TRUNK_PREFIX}); give ResNet-50 weights such as DINO's"
        )
    model.load_state_dict(matched, strict=False)
    log.info("%s: %d tensors of the ResNet initialised", path, len(matched))


def match_suffixes(names: Iterable[str], source: Mapping[str, Tensor]) -> State:
    """Return {name: tensor}: for each name the source entry that is its longest dot-separated suffix."""
    matched: State = OrderedDict()
    for name in names:
        parts = name.split(".")
        suffixes = (".".join(parts[start:]) for start in range(len(parts)))
        found = next((suffix for suffix in suffixes if suffix in source), None)
        if found is not None:
            matched[name] = source[found]
    return matched
