"""The names of the backbones stand once."""

from __future__ import annotations

from cups.backbones.names import DEFAULT_DINOV2, DEFAULT_DINOV3, DINOV2_NAMES, DINOV3_NAMES, NAMES, TEXTON
from cups.backbones.registry import REGISTRY
from cups.io.weights import weight_table


def test_names__are_those_that_can_be_built() -> None:
    assert tuple(REGISTRY) == NAMES
    assert DEFAULT_DINOV2 in DINOV2_NAMES and DEFAULT_DINOV3 in DINOV3_NAMES


def test_names__all_but_texton_have_weights() -> None:
    assert {name for name in NAMES if name not in weight_table()} == {TEXTON}
