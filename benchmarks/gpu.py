"""What only a machine with a GPU can tell: parity, bf16 against fp32, speed and memory of both stages.

    python benchmarks/gpu.py --output runs/gpu_benchmark

- parity: the networks' stored inputs and outputs (`tests/parity`) on the GPU in float32.
- curve: losses of a short Stage 2 in bf16 and in float32, same seed.
- stage2: images/s and peak memory at 640 x 1280: ours, plain detectron2, upstream's habits, and variants.
- stage3: the same at 1024 x 2048, teacher with test-time augmentation and student.
- syncs: how often a step makes the processor wait for the GPU, and where.
- profile: which share of a step the GPU computes, and in which operators.

Batches that do not fit are a row of the table. A killed run goes on with the rows that are missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.steps.flags import parse
from studies.benchmarks.settings import GpuSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write and print the tables."""
    (settings,) = parse(__doc__, argv, GpuSettings)
    from studies.benchmarks.gpu import compare  # after parsing: --help is quick

    return compare(settings)


if __name__ == "__main__":
    run_main(main)
