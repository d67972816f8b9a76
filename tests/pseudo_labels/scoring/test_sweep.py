"""The grid of the sweep."""

from __future__ import annotations

from pseudo_labels.scoring.sweep import configurations_of
from pseudo_labels.settings.scoring import SweepSettings


def test_configurations_of__default_grid() -> None:
    grid = configurations_of(SweepSettings())
    split = [configuration for configuration in grid if configuration.grad_threshold is not None]
    assert len(split) == len(set(split)) == 31 and len(grid) == 36


def test_configurations_of__own_values_are_sorted() -> None:
    grid = configurations_of(SweepSettings(grad_thresholds=(0.3, 0.1), min_areas=(7,), no_cc_baseline=True))
    assert [configuration.grad_threshold for configuration in grid] == [0.1, 0.3]
