"""CAUSE (Kim et al., "Causal Unsupervised Semantic Segmentation", Pattern Recognition 2024), written anew.

State dicts have the names of the published checkpoints; see `refs/SOURCES.md` for where the facts come from.
"""

from refs.cause.modules.cluster import Cluster
from refs.cause.modules.contrastive import MemoryBank, contrastive_loss
from refs.cause.modules.modularity import modularity_loss, sample_tokens
from refs.cause.modules.segment import SegmentTR, ema_update, flip_average

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
