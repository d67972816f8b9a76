"""Stage 1: 27-class CAUSE semantics to the 19 trainIds; classes that the 19 do not have become void."""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.labels import RemapSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import FrameRun, parse_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_step(__doc__, argv, FrameRun, RemapSettings)
    from pseudo_labels.generators.train_ids import make_train_ids  # after parsing: --help is quick

    make_train_ids(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
