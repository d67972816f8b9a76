"""Defaults by what folders say of themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.provenance import read_provenance, write_provenance
from pseudo_labels.generate_depth_guided_instances import main as make_instances
from pseudo_labels.inputs.outlines import classes_have_names, decide, depth_source
from pseudo_labels.settings.groups import Splitting
from pseudo_labels.settings.outlines import pixels_of
from pseudo_labels.settings.thing_stuff import ThingStuffSettings
from pseudo_labels.steps.label_kind import LabelKind
from tests.pseudo_labels.conftest import write_stereo_depth


@pytest.mark.parametrize(
    ("content", "source"),
    [
        (None, "network"),
        ({}, "network"),
        ({"depth": {"source": "stereo"}}, "stereo"),
        ({"depth": {"source": "network"}, "arguments": {"source": "disparity"}}, "network"),
        ({"arguments": {"source": "disparity"}}, "stereo"),
        ({"arguments": {"source": "spidepth"}}, "network"),
    ],
    ids=["foreign", "empty", "stereo", "stated first", "0.2 disparity", "0.2 spidepth"],
)
def test_depth_source(tmp_path: Path, content: dict[str, Any] | None, source: str) -> None:
    if content is not None:
        (tmp_path / "provenance.json").write_text(json.dumps(content))
    assert depth_source(tmp_path) == source


@pytest.mark.parametrize("stated", [{"source": "lidar"}, "stereo", {}])
def test_depth_source__nonsense_is_refused(tmp_path: Path, stated: Any) -> None:
    (tmp_path / "provenance.json").write_text(json.dumps({"depth": stated}))
    with pytest.raises(UserError, match="does not say what depth it is"):
        depth_source(tmp_path)


@pytest.mark.parametrize(
    ("kind", "named"), [("trainId", True), ("cause27", False), ("clusters", False), (None, True)]
)
def test_classes_have_names(tmp_path: Path, kind: str | None, named: bool) -> None:
    if kind is not None:
        write_provenance(tmp_path, script="x", arguments={}, labels=LabelKind(kind, 27).content())
    assert classes_have_names(tmp_path) == named


@pytest.mark.parametrize(
    ("source", "named", "expected"),
    [
        ("stereo", True, ("classes", 0.15, 0.0)),
        ("stereo", False, ("objects", 0.15, 0.0)),
        ("network", False, ("objects", 0.03, 0.03)),
        (None, True, ("classes", None, None)),
        (None, False, ("things", None, None)),
    ],
)
def test_for_depth__decides_what_is_not_given(
    source: str | None, named: bool, expected: tuple[str, float | None, float | None]
) -> None:
    settings = Splitting().for_depth(source, named)
    assert (settings.proposals, settings.grad_threshold, settings.depth_blur) == expected
    given = Splitting(proposals="things", grad_threshold=0.4, depth_blur=0.1, min_area=9, dilation=2)
    assert given.for_depth(source, named) == given


def test_thing_stuff__decides_by_the_kind_of_depth() -> None:
    for source, step, blur in (("stereo", 0.1, 0.0), ("network", 0.03, 0.03)):
        settings = ThingStuffSettings().for_depth(source)
        assert (settings.grad_threshold, settings.depth_blur) == (step, blur)
    given = ThingStuffSettings(grad_threshold=0.5, depth_blur=0.0)
    assert given.for_depth("network") == given


def test_decide__says_what_it_chose(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    decide(Splitting(min_area=5), tmp_path / "semantics", tmp_path / "depth")
    assert "network depth" in caplog.text and "proposals classes" in caplog.text
    assert "min_area" not in caplog.text, "that was given"


def test_pixels_of__areas_are_pixels_of_a_512_row_image() -> None:
    assert [pixels_of(1000, rows) for rows in (512, 1024, 192, 1)] == [1000, 4000, 141, 1]


def test_instances__named_values_resume_a_run_that_took_the_defaults(tiny_root: Any) -> None:
    write_stereo_depth(tiny_root)
    root = ["--cityscapes_root", str(tiny_root.path), "--semantic_subdir", "pseudo_semantic_mapped_k300"]
    make_instances(root)
    folder = tiny_root.path / "pseudo_instance_depth_guided_mapped_k300"
    provenance = read_provenance(folder)
    assert provenance is not None
    recorded = provenance["arguments"]
    assert (recorded["grad_threshold"], recorded["depth_blur"]) == (0.15, 0.0)
    assert (recorded["proposals"], recorded["min_area"], recorded["edge"]) == ("classes", 400, "log")
    named = ("--grad_threshold", "0.15", "--depth_blur", "0", "--proposals", "classes", "--min_area", "400")
    make_instances([*root, *named])
    with pytest.raises(UserError, match="`min_area` 400"):
        make_instances([*root, "--min_area", "300"])


def test_instances__depth_of_a_network_and_clusters_change_the_defaults(tiny_root: Any) -> None:
    write_stereo_depth(tiny_root)
    (tiny_root.path / "depth_spidepth" / "provenance.json").unlink()
    (tiny_root.path / "pseudo_semantic_mapped_k300").rename(tiny_root.path / "pseudo_semantic_raw_k14")
    for stem in tiny_root.stems:
        path = tiny_root.file("depth_spidepth", f"{stem}.npy")
        np.save(path, np.load(path)[::2, ::2])
    root = ["--cityscapes_root", str(tiny_root.path), "--semantic_subdir", "pseudo_semantic_raw_k14"]
    make_instances([*root, "--thing_classes", "13", "--method_name", "new"])
    provenance = read_provenance(tiny_root.path / "pseudo_instance_new")
    assert provenance is not None
    recorded = provenance["arguments"]
    assert (recorded["grad_threshold"], recorded["depth_blur"]) == (0.03, 0.03)
    assert recorded["proposals"] == "objects"
