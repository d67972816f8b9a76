"""Choices of the merge that need no training."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cups.config import build_config
from cups.model import MergeChoices
from cups.model.architecture import RULES
from cups.model.network_config import architecture_of, load_config


def test_choices__have_one_name_in_keys_network_config_and_network() -> None:
    pairs = ["MODEL.SNAP_TO_REGIONS", "False", "MODEL.SEMANTIC_WEIGHT", "0.3"]
    choices = MergeChoices.of_keys(build_config(None, pairs).MODEL)
    assert choices.keys == {"MODEL.SNAP_TO_REGIONS": False, "MODEL.SEMANTIC_WEIGHT": 0.3}
    assert choices.architecture.keys() <= RULES.keys()
    overrides = [item for pair in choices.architecture.items() for item in pair]
    told = architecture_of(load_config(overrides=overrides))
    assert choices.architecture.items() <= told.items()
    network = SimpleNamespace(combine_snap_to_regions=True, combine_semantic_weight=0.0)
    choices.apply(network)
    assert vars(network) == {"combine_snap_to_regions": False, "combine_semantic_weight": 0.3}


@pytest.mark.parametrize("choices", [MergeChoices(), MergeChoices.of_keys(build_config(None, []).MODEL)])
def test_choices__none_leaves_the_network_as_it_was_trained(choices: MergeChoices) -> None:
    network = SimpleNamespace(combine_snap_to_regions=True, combine_semantic_weight=0.2)
    choices.apply(network)
    assert vars(network) == {"combine_snap_to_regions": True, "combine_semantic_weight": 0.2}
    assert choices.keys == choices.architecture == choices.chosen == {}
