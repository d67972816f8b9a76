"""Unsupervised panoptic segmentation of street scenes.

`cups.load(path)` opens a trained network; the sub-packages hold the rest. Names are imported at first use.
"""

import cups.interrupts  # noqa: F401  first: Ctrl-C while the rest is imported

# isort: split
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
