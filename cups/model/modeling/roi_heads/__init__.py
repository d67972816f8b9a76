"""Cascade heads with DropLoss."""

from cups.model.modeling.roi_heads.cascade_rcnn import CustomCascadeROIHeads
from cups.model.modeling.roi_heads.fast_rcnn import CustomFastRCNNOutputLayers, drop_weights

__all__ = ["CustomCascadeROIHeads", "CustomFastRCNNOutputLayers", "drop_weights"]
