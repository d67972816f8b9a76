"""Networks of the library timm: those of a list, imported without W&B.

timm takes more than names: `hf-hub:...` downloads, `local-dir:...` opens a folder. A name that is not in the
list is not looked up, wherever it comes from.

timm imports `wandb` for its own training scripts if it is installed, and `wandb` makes two temporary folders
as it is imported. Processes that end without clean-up (workers, ranks of a training) leave them behind.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_RESNETS = (
    *(f"resnet{depth}" for depth in (18, 26, 34, 50, 101, 152)),
    *(f"resnet{depth}d" for depth in (18, 26, 34, 50, 101, 152)),
    *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2", "test_resnet"),
)
_SMALL, _LARGE = ("atto", "femto", "pico", "nano", "tiny"), ("base", "large")
_CONVNEXTS = (
    *(f"convnext_{size}" for size in (*_SMALL, "small", *_LARGE, "xlarge")),
    *(f"convnextv2_{size}" for size in (*_SMALL, *_LARGE, "huge")),
)
PYRAMIDS = (*_CONVNEXTS, *_RESNETS)
"""With features at strides 4 to 32: what a depth network can stand on."""
_SIZES = ("small", "base", "large")
TRANSFORMERS = (
    *(f"vit_{size}_patch16_dinov3" for size in _SIZES),
    *(f"vit_{size}_patch14_dinov2" for size in _SIZES),
    *(f"vit_{size}_patch14_reg4_dinov2" for size in _SIZES),
)
NAMES = frozenset((*PYRAMIDS, *TRANSFORMERS))


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Let a module seem not installed, unless it is imported already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def create_model(name: str, **options: Any) -> Any:
    """Build a network by its name in timm; `options` are those of `timm.create_model`.

    Raises:
        ValueError: a name that is not one of `NAMES`.
    """
    if not isinstance(name, str) or name not in NAMES:
        raise ValueError("not a network of timm that is used here")
    with _hidden("wandb"):
        import timm  # seconds, for which those who need no such network do not wait
    return timm.create_model(name, **options)
