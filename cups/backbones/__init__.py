"""Frozen feature extractors behind one interface, chosen by name."""

from cups.backbones.dino import DinoV3, load_strict, official_to_timm
from cups.backbones.names import NAMES
from cups.backbones.registry import autocast, build_backbone, normalize, untrained_backbone
from cups.io.checkpoint import load_tensors

__all__ = [
    "NAMES",
    "DinoV3",
    "autocast",
    "build_backbone",
    "load_strict",
    "load_tensors",
    "normalize",
    "official_to_timm",
    "untrained_backbone",
]
