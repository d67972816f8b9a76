"""Stage 1: semantic and instance maps to the flat training format of CUPS (Hahn et al., CVPR 2025).

One `{stem}_leftImg8bit_semantic.png` and `{stem}_leftImg8bit_instance.png` per image, the semantics uniform
inside each instance, and the class statistics from which training derives things and stuff.
"""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.labels import CupsSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import FrameRun, parse_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_step(__doc__, argv, FrameRun, CupsSettings)
    from pseudo_labels.generators.cups_format import make_training_set  # after parsing: --help is quick

    make_training_set(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
