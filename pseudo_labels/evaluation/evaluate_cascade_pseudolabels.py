"""Score a folder in the CUPS format, as the cascade network is trained on it, against gtFine.

PQ, SQ, RQ under both void rules with the things that training derives from the `.pt` statistics, and the
semantics alone under every matching, in one pass. Label files may have image size, training size or any size
of the same aspect; they pass through the alignment that training uses. It looks at ground truth, so nothing
it writes may be trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.settings.scoring import CascadeScores, ScoredImages
from pseudo_labels.steps.flags import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the evaluation."""
    images, settings = parse(__doc__, argv, ScoredImages, CascadeScores)
    from pseudo_labels.scoring.panoptic_labels import score_cascade_labels  # after parsing: --help is quick

    print(score_cascade_labels(images, settings))
    return 0


if __name__ == "__main__":
    run_main(main)
