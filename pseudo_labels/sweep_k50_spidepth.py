"""Sweep threshold and least area of depth-guided instance splitting; rank by PQ and by PQ of things.

Semantics, depth and ground truth of a frame are read once for all configurations. The default grid has 31:
six thresholds, by the kind of depth, times five areas, and the defaults of
`generate_depth_guided_instances.py`. With `--edge linear` it is the published grid, of 31 too. Connected
components without depth, at each area, are the baseline: of each thing class with `--proposals classes`, else
of all thing classes together. Pseudo-classes are matched to classes once, by the pixels that the semantic
maps share with ground truth (Hungarian, things and stuff apart): all configurations are scored under that one
matching, and differ by their instances only.

It reads gtFine: this is analysis. To choose a configuration by it is to choose with labels, and to do so on
val is to tune on what is reported; `--split train --max_images N` at least keeps val unseen. Label-free
pipelines take the defaults, whose row is marked.
"""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.scoring import SweepRun, SweepSettings, SweptImages
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import parse_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sweep."""
    source, run, settings = parse_step(__doc__, argv, SweepRun, SweepSettings, SweptImages)
    from pseudo_labels.generators.thing_stuff import required_things  # after parsing: --help is quick
    from pseudo_labels.scoring.sweep import sweep

    if (report := sweep(source, settings, run, required_things)) is not None:
        print(report)
    return 0


if __name__ == "__main__":
    run_script(main)
