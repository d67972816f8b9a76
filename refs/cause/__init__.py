"""CAUSE (Kim et al., "Causal Unsupervised Semantic Segmentation", Pattern Recognition 2024), written anew.

State dicts have the names of the published checkpoints; see `refs/SOURCES.md` for where the facts come from.
"""

from refs.cause.modules import (
    Cluster,
    MemoryBank,
    SegmentTR,
    contrastive_loss,
    ema_update,
    flip_average,
    modularity_loss,
    sample_tokens,
)

__all__ = [
    "Cluster",
    "MemoryBank",
    "SegmentTR",
    "contrastive_loss",
    "ema_update",
    "flip_average",
    "modularity_loss",
    "sample_tokens",
]
