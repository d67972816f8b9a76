"""Meta-architecture, semantic head and panoptic merge."""

from cups.model.modeling.meta_arch.merge import decide_semantic, merge_panoptic
from cups.model.modeling.meta_arch.panoptic_fpn import CustomPanopticFPN
from cups.model.modeling.meta_arch.semantic_seg import CustomSemSegFPNHead

__all__ = ["CustomPanopticFPN", "CustomSemSegFPNHead", "decide_semantic", "merge_panoptic"]
