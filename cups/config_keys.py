"""The configuration, one row a key: default, allowed values, meaning. The rows are in `cups/configuration/`.

`python -m cups.config_page > docs/configuration.md` writes them for readers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from yacs.config import CfgNode

from cups.configuration.augmentation import AUGMENTATION
from cups.configuration.data import DATA
from cups.configuration.key import Key
from cups.configuration.model import MODEL
from cups.configuration.self_training import SELF_TRAINING
from cups.configuration.system import SYSTEM
from cups.configuration.training import TRAINING
from cups.configuration.validation import VALIDATION
from cups.errors import UserError

SECTIONS: dict[str, dict[str, Key]] = {
    "SYSTEM": SYSTEM,
    "MODEL": MODEL,
    "DATA": DATA,
    "TRAINING": TRAINING,
    "SELF_TRAINING": SELF_TRAINING,
    "AUGMENTATION": AUGMENTATION,
    "VALIDATION": VALIDATION,
}
KEYS: dict[str, Key] = {
    f"{section}.{name}": key for section, rows in SECTIONS.items() for name, key in rows.items()
}
"""Dotted key -> its row."""


def default_config() -> CfgNode:
    """Return the default tree."""
    tree: dict[str, Any] = {}
    for name, key in KEYS.items():
        *sections, leaf = name.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = key.default
    return CfgNode(tree)


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
    for name, key in KEYS.items():
        refusal = key.check.refusal(name, get(config, name))
        if refusal is not None:
            raise UserError(refusal)
    if config.MODEL.BACKBONE_TYPE == "texton" and not config.MODEL.FREEZE_BACKBONE:
        raise UserError(
            "MODEL.FREEZE_BACKBONE is False, but the texton backbone has no weights to train; leave it True"
        )
