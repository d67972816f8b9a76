"""What is told of the images that a training sees."""

from __future__ import annotations

import pytest

from cups.builders.trainer import recipe_of
from cups.config import build_config
from cups.training.recipe import CUPS_STAGE2, CUPS_STAGE3, Recipe


def test_cups__sees_sixty_four_images_per_step() -> None:
    assert (CUPS_STAGE2.per_step, CUPS_STAGE2.images) == (64, 512_000)
    assert (CUPS_STAGE3.per_step, CUPS_STAGE3.images) == (64, 96_000)


def test_told__counts_gpus_batch_and_accumulation() -> None:
    """The command of the first page trained on a quarter of CUPS's samples, and nothing said so."""
    assert Recipe("Stage 2", 4, 4, 1, 8000).told(2975, CUPS_STAGE2) == (
        "Stage 2: 16 images per optimiser step (4 GPUs or processes x 4 x 1 accumulated), 8000 steps, 128000 "
        "images in all, 43 passes over 2975; CUPS: 64 per step, 8000 steps, 512000 images (4 times as many); "
        "TRAINING.ACCUMULATE_GRAD_BATCHES 4 makes it 64 per step"
    )


@pytest.mark.parametrize(("gpus", "batch", "parts"), [(4, 16, 1), (1, 2, 32), (3, 16, 1), (2, 64, 1)])
def test_told__says_what_to_accumulate_where_it_can(gpus: int, batch: int, parts: int) -> None:
    told = Recipe("Stage 3", gpus, batch, parts, 1500).told(100, CUPS_STAGE3)
    assert ("makes it 64" in told) is False
    assert f"Stage 3: {gpus * batch * parts} images per optimiser step" in told


def test_recipe_of__reads_the_keys() -> None:
    flags = {"batch_size": 4, "accumulate_grad": 8, "steps": 10}
    assert recipe_of(build_config(None, (), flags), "a", 2) == Recipe("a", 2, 4, 8, 10)
