"""Evaluation metrics."""

from cups.metrics.overlap import overlap_table
from cups.metrics.panoptic_quality import PanopticQualitySemanticMatching
from cups.metrics.semantic import ConfusionMatrix, SemanticQuality, mapped_confusion, semantic_quality

__all__ = [
    "ConfusionMatrix",
    "PanopticQualitySemanticMatching",
    "SemanticQuality",
    "mapped_confusion",
    "overlap_table",
    "semantic_quality",
]
