"""Ways to compute the same network faster."""

from __future__ import annotations

import pytest
import torch

from cups.model.speed import prefers_channels_last


@pytest.mark.parametrize(
    ("gpu", "accelerator", "images", "expected"),
    [
        (True, "auto", 4, True),
        (True, "gpu", 16, True),
        (True, "cuda", 3, False),
        (True, "cpu", 16, False),
        (False, "auto", 16, False),
        (True, "mps", 16, False),
    ],
)
def test_prefers_channels_last__a_gpu_with_enough_images(
    gpu: bool, accelerator: str, images: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert prefers_channels_last(accelerator, images) == expected
