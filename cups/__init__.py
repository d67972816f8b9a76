"""Unsupervised panoptic segmentation of street scenes."""

import logging

from cups import detectron2_compat

# Stage 1 works without detectron2, so this only tells; importing cups.model raises the same sentence.
if not detectron2_compat.is_installed():
    logging.getLogger(__name__).warning(detectron2_compat.MISSING)
