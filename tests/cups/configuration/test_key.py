"""Rows of the configuration: their defaults, their choices, their bounds."""

from __future__ import annotations

import pytest

from cups.backbones.registry import NETWORKS, REGISTRY
from cups.config_keys import KEYS
from cups.metrics.protocol import VOID_RULES


@pytest.mark.parametrize("name", KEYS)
def test_keys__default_is_allowed_and_meaning_is_a_sentence(name: str) -> None:
    key = KEYS[name]
    assert key.check.refusal(name, key.default) is None
    assert key.meaning.endswith((".", "...")) and "\n" not in key.meaning and key.check.allowed


FREE = {"SYSTEM.WANDB_PROJECT"}
"""Keys that take any text."""
WITHOUT_TOP = {"TRAINING.GRADIENT_CLIP_VAL"}
"""Keys that take any finite number from some value on."""


@pytest.mark.parametrize("name", KEYS)
def test_keys__every_one_has_bounds(name: str) -> None:
    """`TRAINING.ADAMW.LEARNING_RATE inf` and a seed of 2**40, which numpy refuses, passed."""
    accepts = KEYS[name].check.accepts
    assert name in FREE or not accepts("a\nb")
    assert not any(map(accepts, (float("nan"), float("inf"), -(2**63))))
    assert name in WITHOUT_TOP or (not accepts(2**63) and not accepts(1e30))
    assert not accepts((float("nan"),)) and not accepts([[float("inf")] * 2])


def test_keys__choices_are_those_of_the_code() -> None:
    assert KEYS["MODEL.BACKBONE_TYPE"].check.allowed == ", ".join(("resnet50", *REGISTRY))
    assert set(REGISTRY) == {"texton", *NETWORKS}
    assert KEYS["VALIDATION.VOID_RULE"].check.allowed == ", ".join(VOID_RULES)
