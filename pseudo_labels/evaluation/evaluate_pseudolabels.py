"""Score pseudo-labels against gtFine: PQ, SQ, RQ, mIoU, accuracy under both void rules.

Reads a semantic and an instance folder, a panoptic folder (`--panoptic_subdir`), or a folder in the CUPS
format (`--cups_dir`). It looks at ground truth, so nothing it writes may be trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.settings.scoring import PseudoLabelScores, ScoredImages
from pseudo_labels.steps.flags import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the evaluation."""
    images, settings = parse(__doc__, argv, ScoredImages, PseudoLabelScores)
    from pseudo_labels.scoring.panoptic_labels import score_pseudolabels  # after parsing: --help is quick

    print(score_pseudolabels(images, settings))
    return 0


if __name__ == "__main__":
    run_main(main)
