"""Train a ResNet on one's own images, or a video, without labels: a backbone for Stage 1 and Stage 2.

Writes `backbone.pth`, with torchvision's names: `--backbone own:PATH` of the scripts of Stage 1 reads it, and
`MODEL.BACKBONE_CHECKPOINT PATH` of Stage 2. The loss is VICRegL of the library lightly (extra `stage1`).
"""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.backbone import TrainBackboneSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import TrainingRun, parse_whole


def main(argv: Sequence[str] | None = None) -> int:
    """Train."""
    source, run, settings = parse_whole(__doc__, argv, TrainingRun, TrainBackboneSettings)
    from pseudo_labels.networks.backbone_training import train_backbone  # after parsing: --help is quick

    train_backbone(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
