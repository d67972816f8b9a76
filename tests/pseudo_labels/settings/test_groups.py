"""Groups that several steps share."""

from __future__ import annotations

from pathlib import Path

import pytest

from cups.errors import UserError
from pseudo_labels.settings.groups import Inference, ThingChoice
from pseudo_labels.steps.flags import parse, settings_of


@pytest.mark.parametrize("size", ["0", "-3"])
def test_inference__refuses_no_images_at_once(size: str) -> None:
    (inference,) = parse("", [], Inference)
    assert inference.batch_size == 4
    with pytest.raises(UserError, match=f"`batch_size` {size}: must be at least 1"):
        parse("", ["--batch_size", size], Inference)
    with pytest.raises(SystemExit):
        parse("", ["--batch_size", "many"], Inference)


def test_thing_choice__one_of_two() -> None:
    with pytest.raises(UserError, match=r"^`thing_classes`: give either it or `split_json`"):
        ThingChoice(thing_classes=(1,), split_json=Path("x"))


def test_with_things__the_things_found_decide_not_the_file_that_told() -> None:
    told = ThingChoice(split_json=Path("x")).with_things((1, 2))
    assert settings_of(told) == {"semantic_subdir": "pseudo_semantic_raw_k300", "thing_classes": [1, 2]}
    assert settings_of(told) == settings_of(ThingChoice(thing_classes=(1, 2)))
