"""Stage 1: CAUSE-TR inference, 27 clusters and 90-channel codes for every image (Kim et al., 2024)."""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.cause import CauseSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import NetworkRun, parse_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_step(__doc__, argv, NetworkRun, CauseSettings)
    from pseudo_labels.generators.cause_semantics import (
        make_cause_semantics,
    )  # after parsing: --help is quick

    make_cause_semantics(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
