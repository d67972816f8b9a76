"""Unsupervised panoptic segmentation of street scenes."""
