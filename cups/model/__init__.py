"""The panoptic network of Stage 2 and 3, on detectron2."""

import lazy_loader

from cups.detectron2_compat import prepare

prepare()  # before any module of this package imports detectron2

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
