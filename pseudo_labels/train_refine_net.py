"""Train CSCMRefineNet to refine semantic pseudo-labels by features, depth and the image, without labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.networks.refine_training import RefineFit, build_parser, run_training
from pseudo_labels.refine_net import CSCMRefineNet

SCRIPT = "train_refine_net"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_training(build_parser(__doc__ or "").parse_args(argv), SCRIPT, CSCMRefineNet, RefineFit)
    return 0


if __name__ == "__main__":
    run_main(main)
