"""Images per second of a Stage-2 training step: ours, plain detectron2, and the habits of upstream.

    python benchmarks/train_step.py --size 640 1280 --batch_size 2 --repeats 5

All networks are of one model config with the same weights and see the same batches; the repetitions take
turns, so that whatever else the machine does meets all of them. A step is forward, backward and AdamW.

- ours: the step of Stage 2.
- ours, pasting own finds: after `AUGMENTATION.NUM_STEPS_STARTUP` steps, detection on the clean batch feeds
  copy-paste.
- upstream's habits: our network, but at every step the batch is deep-copied and all of inference is run on
  the clean one, used or not.
- plain detectron2: its own PanopticFPN, RPN, CascadeROIHeads, ROIAlign and semantic loss.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.steps.flags import parse
from studies.benchmarks.settings import TrainStepSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    (settings,) = parse(__doc__, argv, TrainStepSettings)
    from studies.benchmarks.train_step import compare  # after parsing: --help is quick

    return compare(settings)


if __name__ == "__main__":
    run_main(main)
