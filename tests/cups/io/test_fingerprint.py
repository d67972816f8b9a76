"""A recipe's identity: what belongs to it, what does not, and what is told of a difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.io.files import write_json
from cups.io.fingerprint import (
    array_digest,
    changed_fits,
    changed_inputs,
    digest_of,
    fingerprint_of,
    frames_identity,
    same_recipe,
)
from cups.io.provenance import make_provenance, read_provenance, write_provenance


def mark(**about: Any) -> str:
    return str(make_provenance(**{"script": "test", "arguments": {"seed": 0}, **about})["fingerprint"])


def step(folder: Path, **about: Any) -> dict[str, Any]:
    return write_provenance(folder, **{"script": "test", "arguments": {"seed": 0}, **about})


def test_fingerprint__is_that_of_the_recipe_not_of_the_place(tmp_path: Path) -> None:
    step(tmp_path / "a" / "codes")
    step(tmp_path / "b" / "codes")
    one, other = (
        mark(
            inputs=[tmp_path / place / "codes", tmp_path / place / "leftImg8bit"],
            arguments={"seed": 0, "cityscapes_root": str(tmp_path / place), "num_workers": workers},
            frames=[f"frame {workers}"],
        )
        for place, workers in (("a", 1), ("b", 4))
    )
    assert one == other and len(one) == 24


@pytest.mark.parametrize(
    "other",
    [
        {"script": "another"},
        {"arguments": {"seed": 1}},
        {"settings": {"seed": 0, "k": 5}},
        {"labels": {"kind": "clusters", "num_classes": 5}},
        {"weights": [{"name": "net", "sha256": {"net.pth": "0" * 64}}]},
        {"fits": {"clusters": "abc"}},
        {"frames": ["a", "b"], "whole": True},
    ],
    ids=lambda other: next(iter(other)),
)
def test_fingerprint__each_part_of_the_recipe_counts(other: dict[str, Any]) -> None:
    assert mark(**other) != mark()


def test_fingerprint__inputs_count_through_all_steps(tmp_path: Path) -> None:
    def chain(root: Path, seed: int) -> str:
        step(root / "codes", arguments={"seed": seed})
        step(root / "clusters", inputs=[root / "codes"])
        return mark(inputs=[root / "clusters"])

    assert chain(tmp_path / "a", 0) == chain(tmp_path / "b", 0) != chain(tmp_path / "c", 1)


def test_frames_identity__knows_no_order() -> None:
    assert frames_identity(["b", "a"]) == frames_identity(["a", "b"]) != frames_identity(["a", "c"])
    assert frames_identity(["a", "b"])["count"] == 2
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})


def test_array_digest__values_shape_and_type_count() -> None:
    array = np.arange(6)
    others = [array[::-1], array.reshape(2, 3), array.astype(np.int32)]
    assert len({array_digest(one) for one in (array, array.copy(), *others)}) == 4


def test_changed_inputs__tells_what_was_made_anew(tmp_path: Path) -> None:
    step(tmp_path / "codes")
    earlier = make_provenance(script="test", arguments={}, inputs=[tmp_path / "codes", tmp_path / "images"])
    same = make_provenance(script="test", arguments={}, inputs=[tmp_path / "codes"])
    assert changed_inputs(earlier, same) == []
    step(tmp_path / "codes", arguments={"seed": 1})
    anew = make_provenance(script="test", arguments={}, inputs=[tmp_path / "codes"])
    assert changed_inputs(earlier, anew) == ["codes was made anew"]
    step(tmp_path / "features", arguments={"seed": 2})
    other = make_provenance(script="test", arguments={}, inputs=[tmp_path / "features"])
    assert changed_inputs(earlier, other) == ["codes, now features"]


def test_changed_inputs__a_folder_that_lost_its_provenance_is_not_judged(tmp_path: Path) -> None:
    step(tmp_path / "codes_cause_tr")
    earlier = make_provenance(script="test", arguments={}, inputs=[tmp_path / "codes_cause_tr"])
    (tmp_path / "codes_cause_tr" / "provenance.json").unlink()
    assert (
        changed_inputs(
            earlier, make_provenance(script="test", arguments={}, inputs=[tmp_path / "codes_cause_tr"])
        )
        == []
    )


def test_same_recipe__of_version_0_2_0_compares_what_both_tell(tmp_path: Path) -> None:
    new = step(tmp_path / "a", arguments={"k": 50, "split": "train", "gamma": 2})
    old = {name: value for name, value in new.items() if name != "fingerprint"}
    assert same_recipe(old | {"arguments": {"k": 50, "split": "val"}}, new)
    assert not same_recipe(old | {"arguments": {"k": 300}}, new)
    assert not same_recipe(old | {"script": "another"}, new)
    assert same_recipe(None, new)


def test_fingerprint_of__a_folder_of_version_0_2_0_stays_the_same(tmp_path: Path) -> None:
    """Its provenance tells no fingerprint; what follows from it knows the folder by one all the same."""
    old = {
        name: value for name, value in step(tmp_path / "a").items() if name not in ("fingerprint", "frames")
    }
    write_json(tmp_path / "a" / "provenance.json", old)
    after = make_provenance(script="next", arguments={}, inputs=[tmp_path / "a"])
    assert after["inputs"][0]["fingerprint"] == fingerprint_of(read_provenance(tmp_path / "a")) != "raw"
    assert (fingerprint_of(None), fingerprint_of(None, known=False)) == ("raw", "unknown")


def test_changed_fits__names_those_that_differ() -> None:
    assert changed_fits({"fits": {"clusters": "a"}}, {"fits": {"clusters": "b", "names": "c"}}) == [
        "clusters"
    ]
    assert changed_fits({}, {"fits": {"clusters": "b"}}) == []
