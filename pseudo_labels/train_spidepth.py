"""Train depth from monocular video by view synthesis, without labels and without stereo.

Depth and camera motion are learned together: they must explain each frame from its neighbours. The scale of
the depth is arbitrary. Writes `encoder.pth`, `depth.pth`, `pose.pth` and `settings.json`, which
generate_depth_spidepth.py reads.
"""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.depth import TrainDepthSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import TrainingRun, parse_whole


def main(argv: Sequence[str] | None = None) -> int:
    """Train."""
    source, run, settings = parse_whole(__doc__, argv, TrainingRun, TrainDepthSettings)
    from pseudo_labels.networks.depth_training import train_depth  # after parsing: --help is quick

    train_depth(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
