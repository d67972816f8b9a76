"""Score raw overclusters (k = 50, or any k) with their instances against gtFine.

The clusters have no names: PQ is under the Hungarian matching of clusters to classes, things with things and
stuff with stuff, the things coming from label-free statistics: `classify_stuff_things.py`, or the `.pt` files
of the folder in the CUPS format made of these labels (`--statistics`). Semantics alone are scored under the
one-to-one and the many-to-one matching. It looks at ground truth, so nothing it writes may be trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.settings.scoring import OverclusterScores, ScoredImages
from pseudo_labels.steps.flags import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the evaluation."""
    images, settings = parse(__doc__, argv, ScoredImages, OverclusterScores)
    from pseudo_labels.scoring.panoptic_labels import score_overclusters  # after parsing: --help is quick

    print(score_overclusters(images, settings))
    return 0


if __name__ == "__main__":
    run_main(main)
