"""Time of the parts of Stage 1 that are not trained, per image and core, against the naive way.

    python benchmarks/stage1.py --images 3 --repeats 5

On rendered street scenes: instance splitting (depth and semantics to instances, and the objects that depth
proposes), overcluster assignment (codes to cluster ids at image size), conversion to the CUPS format (read,
vote, write, count), texton features, PNG files of labels. The naive way labels one class after the other with
`scipy.ndimage.label`, looks for the nearest label at every offset of a disc, computes every distance of every
pixel in float64, blurs what is averaged after, and writes PNG files with default settings; its results are
compared with ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.steps.flags import parse
from studies.benchmarks.settings import Stage1Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    (settings,) = parse(__doc__, argv, Stage1Settings)
    from studies.benchmarks.stage1 import compare  # after parsing: --help is quick

    return compare(settings)


if __name__ == "__main__":
    run_main(main)
