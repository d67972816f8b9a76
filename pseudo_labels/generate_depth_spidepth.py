"""Stage 1: one depth map per image, from the SPIdepth network or from stereo disparity."""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.depth import DepthMapSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import NetworkRun, parse_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_step(__doc__, argv, NetworkRun, DepthMapSettings)
    from pseudo_labels.generators.depth import make_depth  # after parsing: --help is quick

    make_depth(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
