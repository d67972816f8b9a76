"""How many clusters should overclustering have? Quality of k-means on CAUSE codes for many k, against gtFine.

Clusters are fitted on `--fit_split` without labels, as `generate_overclustered_semantics.py` does, and
measured on `--split` with labels. For each k: mIoU under the one-to-one and the many-to-one matching, the
classes recovered, cluster purity, inertia; the plain CAUSE labels stand beside them.

With many clusters a matching that is fitted on the very images it is scored on remembers them: it flatters
large k. `--match_split train` also fits matchings on other images. All of this reads ground truth: it is for
people, and no label is ever made from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.settings.overclusters import AnalysisFrames, AnalysisSettings
from pseudo_labels.steps.flags import parse
from pseudo_labels.steps.options import RunOptions


def main(argv: Sequence[str] | None = None) -> int:
    """Run the analysis."""
    source, run, settings = parse(__doc__, argv, AnalysisFrames, RunOptions, AnalysisSettings)
    from pseudo_labels.scoring.overclusters_analysis import (
        analyse_overclusters,
    )  # after parsing: --help is quick

    folder, text = analyse_overclusters(source, settings, run)
    print(text)
    print(f"analysis: {folder}/analysis.md, .json, .png")
    return 0


if __name__ == "__main__":
    run_main(main)
