"""Stage 1: overclustering, k-means on codes or backbone features of the train split: k pseudo-classes."""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.overclusters import OverclusterSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import FrameRun, parse_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_step(__doc__, argv, FrameRun, OverclusterSettings)
    from pseudo_labels.generators.overclusters import make_overclusters  # after parsing: --help is quick

    make_overclusters(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
