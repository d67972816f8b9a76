"""Data sets: Cityscapes, KITTI panoptic, pseudo-labels in the CUPS format, toy streets, plain folders."""

from cups.data.cityscapes import CityscapesPanopticValidation
from cups.data.kitti import KittiPanopticValidation
from cups.data.pseudo_label_dataset import PseudoLabelDataset
from cups.data.utils import ImageFolder

__all__ = ["CityscapesPanopticValidation", "ImageFolder", "KittiPanopticValidation", "PseudoLabelDataset"]
