"""Crops of feature maps, and the learning rate of DINOSAUR."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cups.io.files import write_npy
from cups.structures import Draw
from pseudo_labels.networks.dinosaur import token_coordinates
from pseudo_labels.networks.dinosaur_training import DinosaurFit, TokenCrops
from pseudo_labels.networks.frozen_features import StoredFeatures
from pseudo_labels.settings.dinosaur import TrainDinosaurSettings
from pseudo_labels.steps.frames import Folder, Frame


def test_learning_rate__as_in_the_paper() -> None:
    """10 k steps of warm-up, then half every 100 k of 500 k steps."""
    settings = TrainDinosaurSettings(steps=500_000)
    fit = DinosaurFit(settings, torch.nn.Module(), None, Path())  # type: ignore[arg-type]
    factors = [fit.learning_rate_factor(step) for step in (0, 4_999, 9_999, 110_000, 210_000)]
    np.testing.assert_allclose(factors, [1e-4, 0.5, 1.0, 0.5, 0.25])


def test_steps_over__epochs_end() -> None:
    """200 times the 2975 images of Cityscapes in batches of 16; a few images still make a training."""
    settings = TrainDinosaurSettings()
    assert (settings.lr, settings.batch_size, settings.clip) == (4e-4, 16, 1.0)
    assert settings.steps_over(2975) == 37188
    assert settings.steps_over(90) == 5000
    assert replace(settings, num_gpus=2, epochs=400).steps_over(2975) == 37188
    assert replace(settings, steps=7).steps_over(2975) == 7


def test_token_crops__features_keep_their_place(tmp_path: Path) -> None:
    """Feature (row, column) at each token: where a crop was not mirrored, coordinates say the same."""
    folder, frame = Folder(tmp_path, "features_texton", ".npy"), Frame("a", Path("train"), Path("a.png"))
    where = token_coordinates(6, 10).numpy()
    write_npy(folder.path(frame), where.astype(np.float16))
    crops = TokenCrops([frame], StoredFeatures(folder), (6, 10), (4, 5), seed=0)
    seen = set()
    for number in range(200):
        item = crops[Draw(0, number)]
        assert item["features"].shape == (4, 5, 2)
        rows, columns = item["coordinates"].unbind(-1)
        mirrored = bool(item["features"][0, 0, 1] > item["features"][0, 1, 1])
        expected = torch.stack((rows, 1 - columns if mirrored else columns), dim=-1)
        torch.testing.assert_close(item["features"], expected, atol=1e-3, rtol=0)
        seen.add((mirrored, round(float(rows[0, 0]), 3), round(float(columns[0, 0]), 3)))
    assert len(seen) == 2 * 3 * 6
    again = crops[Draw(0, 7)]["features"]
    assert torch.equal(again, crops[Draw(0, 7)]["features"])
