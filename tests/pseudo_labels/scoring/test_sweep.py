"""The grid of the sweep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pseudo_labels.scoring.instance_sweep import Configuration
from pseudo_labels.scoring.sweep import configurations_of, default_of, name_of
from pseudo_labels.settings.groups import Splitting
from pseudo_labels.settings.scoring import SweepSettings


def test_configurations_of__default_grid() -> None:
    for source in ("stereo", "network"):
        for named in (True, False):
            settings = SweepSettings().for_depth(source, named)
            grid = configurations_of(settings, source)
            split = [configuration for configuration in grid if configuration.grad_threshold is not None]
            assert len(split) == len(set(split)) == 31 and len(grid) == 36
            assert default_of(settings, source) in split


def test_default_of__is_what_the_generator_does() -> None:
    for source in ("stereo", "network"):
        for named in (True, False):
            for edge in ("log", "linear"):
                alone = Splitting(edge=edge).for_depth(source, named)
                default = default_of(SweepSettings(edge=edge).for_depth(source, named), source)
                assert default == Configuration(alone.grad_threshold, alone.min_area or 0)


def test_configurations_of__linear_edges_have_the_published_grid() -> None:
    settings = SweepSettings(edge="linear").for_depth("network", named=False)
    grid = configurations_of(settings, "network")
    assert len(set(grid)) == len(grid) == 32 and grid[-1] == Configuration(None, 10)
    assert Configuration(0.2, 500) in grid and Configuration(0.05, 200) not in grid
    own = configurations_of(replace(settings, min_areas=(7,)), "network")
    assert len(own) == 12 and own[-1] == Configuration(None, 7)


def test_configurations_of__own_values_are_sorted() -> None:
    settings = SweepSettings(grad_thresholds=(0.3, 0.1), min_areas=(7,), no_cc_baseline=True)
    grid = configurations_of(settings.for_depth("stereo", named=True), "stereo")
    assert [configuration.grad_threshold for configuration in grid] == [0.1, 0.3]


def named(**given: Any) -> str:
    return name_of(SweepSettings(**given).for_depth("stereo", False), "stereo", False)


def test_name_of__every_grid_has_a_folder() -> None:
    """Custom grids come after the default one in the first description: they must not need `overwrite`."""
    plain = "pseudo_semantic_raw_k50+depth_spidepth"
    assert named() == named(proposals="objects", num_semantic_classes=50) == named(depth_blur=0.0) == plain
    others: list[dict[str, Any]] = [
        {"grad_thresholds": (0.1, 0.3)}, {"grad_thresholds": (0.1,)}, {"min_areas": (200,)},
        {"edge": "linear"}, {"no_cc_baseline": True}, {"thing_classes": (3,)}, {"proposals": "things"},
        {"num_classes": 27},
    ]  # fmt: skip
    names = [named(**other) for other in others]
    assert len({plain, *names}) == 9
    assert all(
        name.startswith(f"{plain}+{next(iter(other))}") for name, other in zip(names, others, strict=True)
    )
    assert named(grad_thresholds=(0.3, 0.1)) == names[0]
