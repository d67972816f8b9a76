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


def test_keys__choices_are_those_of_the_code() -> None:
    assert KEYS["MODEL.BACKBONE_TYPE"].check.allowed == ", ".join(("resnet50", *REGISTRY))
    assert set(REGISTRY) == {"texton", *NETWORKS}
    assert KEYS["VALIDATION.VOID_RULE"].check.allowed == ", ".join(VOID_RULES)
