"""Stage 1 on video: labels of neighbouring frames vote on each pixel, carried along optical flow."""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.labels import VoteSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import FrameRun, parse_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_step(__doc__, argv, FrameRun, VoteSettings)
    from pseudo_labels.generators.voted import make_voted  # after parsing: --help is quick

    make_voted(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
