"""A batch whose loss is not finite, kept for inspection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from cups.io.checkpoint import write_file
from cups.structures import Sample


def save_bad_batch(
    folder: Path, step: int, rank: int, samples: Sequence[Sample], losses: Mapping[str, Tensor]
) -> Path:
    """Write what the network was shown and the losses that came out; return the file.

    `torch.load(file, weights_only=True)` reads it: lists `images` (3, H, W), `sem_seg` (H, W), `masks`
    (N, H, W), `classes` (N,), `names` with an entry per sample, `losses` {name: float}, and `step`.
    """
    suffix = f"_rank={rank}" if rank else ""
    path = folder / f"bad_batch_step={step:06d}{suffix}.pt"
    content = {
        "step": step,
        "losses": {name: float(value.detach()) for name, value in losses.items()},
        "names": [sample.name for sample in samples],
        "images": [sample.image.cpu() for sample in samples],
        "sem_seg": [sample.sem_seg.cpu() for sample in samples],
        "masks": [sample.masks.cpu() for sample in samples],
        "classes": [sample.classes.cpu() for sample in samples],
    }
    write_file(path, content)
    return path
