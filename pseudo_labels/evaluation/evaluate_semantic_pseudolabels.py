"""Score semantic pseudo-labels against gtFine: mIoU, accuracy and IoU per class under every matching.

Labels may be trainIds, the 27 classes of CAUSE, or raw clusters. Named labels are scored as they are; all are
scored after a one-to-one (Hungarian) and a many-to-one matching to the classes. A matching that is fitted on
the very images it is scored on flatters labels with many clusters: `--match_split train` fits it elsewhere.
`--protocol semantic-27-crop320` is what unsupervised semantic segmentation papers (STEGO, CAUSE) report. It
looks at ground truth, so nothing it writes may be trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.settings.scoring import ScoredImages, SemanticScores
from pseudo_labels.steps.flags import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the evaluation."""
    images, settings = parse(__doc__, argv, ScoredImages, SemanticScores)
    from pseudo_labels.scoring.semantic_labels import score_semantic_labels  # after parsing: --help is quick

    print(score_semantic_labels(images, settings))
    return 0


if __name__ == "__main__":
    run_main(main)
