"""The parts of the network that differ from detectron2's; importing this registers them by name."""

from cups.model.modeling import meta_arch, roi_heads, rpn

__all__ = ["meta_arch", "roi_heads", "rpn"]
