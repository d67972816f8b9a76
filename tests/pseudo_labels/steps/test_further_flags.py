"""Flags that a run hands on to its scripts."""

from __future__ import annotations

import re

import pytest

from cups.errors import UserError
from pseudo_labels.steps.further_flags import flags_of, grouped, takers

INSTANCES = "pseudo_labels/generate_depth_guided_instances.py"
REMAP = "pseudo_labels/remap_cause27_to_trainid.py"


def test_flags_of__what_the_help_lists() -> None:
    flags = flags_of(INSTANCES)
    assert {"--cityscapes_root", "--min_area", "--no_depth", "--num_shards"} <= flags
    assert "--run_id" not in flags, "hidden"
    assert all(re.fullmatch(r"--\w+", flag) for flag in flags)


def test_flags_of__a_flag_inside_a_help_text_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    def main(argv: list[str]) -> int:
        print("usage: x\n\n  --one N     words that go on\n              --two, told of\n\n--three")
        raise SystemExit(0)

    module = types.SimpleNamespace(main=main)
    monkeypatch.setattr("importlib.import_module", lambda name: module)
    assert flags_of("any/script.py") == {"--one"}


def test_takers__each_script_takes_what_it_knows() -> None:
    words = ["--max_images", "8", "--min_area", "5", "--overwrite"]
    assert takers(words, [INSTANCES, REMAP]) == {
        INSTANCES: ("--max_images", "8", "--min_area", "5", "--overwrite"),
        REMAP: ("--max_images", "8", "--overwrite"),
    }


def test_takers__without_words_no_script_is_asked() -> None:
    assert takers([], ["nowhere/script.py"]) == {}


def test_takers__an_unknown_flag_is_named() -> None:
    with pytest.raises(UserError, match=r"^--min_arae: no step"):
        takers(["--max_images", "8", "--min_arae=5"], [INSTANCES, REMAP])


def test_grouped__values_stay_with_their_flag() -> None:
    words = ["--ids", "1", "-2", "--show=3", "--raw"]
    assert list(grouped(words)) == [
        ("--ids", ("--ids", "1", "-2")),
        ("--show", ("--show=3",)),
        ("--raw", ("--raw",)),
    ]
    assert list(grouped([])) == []
    with pytest.raises(UserError, match=r"^8: unknown"):
        list(grouped(["8", "--raw"]))
