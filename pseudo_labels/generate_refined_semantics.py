"""Stage 1: refine semantic pseudo-labels by a trained CSCMRefineNet or JointRefineNet."""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.refinement import RefinedSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import NetworkRun, parse_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_step(__doc__, argv, NetworkRun, RefinedSettings)
    from pseudo_labels.generators.refined import make_refined  # after parsing: --help is quick

    make_refined(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
