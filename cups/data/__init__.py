"""Data sets: Cityscapes, KITTI panoptic, pseudo-labels in the CUPS format, toy streets, plain folders."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
