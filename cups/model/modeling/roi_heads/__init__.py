"""Cascade heads with DropLoss."""

from cups.model.modeling.roi_heads.cascade_rcnn import CustomCascadeROIHeads
from cups.model.modeling.roi_heads.fast_rcnn import CustomFastRCNNOutputLayers, drop_weights
from cups.model.modeling.roi_heads.mask_head import CustomMaskHead

__all__ = ["CustomCascadeROIHeads", "CustomFastRCNNOutputLayers", "CustomMaskHead", "drop_weights"]
