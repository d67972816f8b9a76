"""Small networks and samples shared by the tests of the model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import cups.model  # first, so that test modules can import detectron2
from cups.structures import Sample

THINGS, STUFFS = 3, 4
# Smaller than the "Small" config still, so that a step takes a fraction of a second.
TINY = [
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 100, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 64),
    *("MODEL.RPN.PRE_NMS_TOPK_TEST", 50, "MODEL.RPN.POST_NMS_TOPK_TEST", 32),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 32, "MODEL.FPN.OUT_CHANNELS", 32),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_BOX_HEAD.CONV_DIM", 32),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 32, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32),
]


def make_tiny(*overrides: object, **options: object) -> nn.Module:
    """Build a seeded tiny network for THINGS and STUFFS; `overrides` come on top of TINY."""
    torch.manual_seed(0)
    options.setdefault("model_overrides", [*TINY, *overrides])
    return cups.model.panoptic_cascade_mask_r_cnn(
        THINGS, STUFFS + 1, model_config="Panoptic-Cascade-Mask-R-CNN-Small.yaml", **options
    )


def make_sample(boxes: list[tuple[int, int, int, int]], size: tuple[int, int] = (64, 96)) -> Sample:
    """Stripes of stuff with rectangular objects (left, top, right, bottom), classes in turn."""
    generator = torch.Generator().manual_seed(len(boxes))
    height, width = size
    sem_seg = (torch.arange(height) * STUFFS // height + 1)[:, None].repeat(1, width)
    masks = torch.zeros((len(boxes), height, width), dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    sem_seg[masks.any(dim=0)] = 0
    image = (sem_seg / STUFFS).repeat(3, 1, 1) * 0.8 + 0.2 * torch.rand((3, *size), generator=generator)
    return Sample(image, sem_seg, masks, torch.arange(len(boxes)) % THINGS, name="frame")


@pytest.fixture(scope="session")
def build_tiny() -> Callable[..., nn.Module]:
    return make_tiny


@pytest.fixture(scope="session")
def build_sample() -> Callable[..., Sample]:
    return make_sample


@pytest.fixture
def sample() -> Sample:
    return make_sample([(4, 6, 40, 40), (50, 20, 90, 60)])
