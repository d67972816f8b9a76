"""The published networks' stored inputs and outputs (skipped where the fixtures are absent)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from refs.cause import Cluster, SegmentTR, flip_average, modularity_loss
from refs.cause.models import dinov2_vit


def noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


@pytest.fixture(scope="module")
def cause(parity: Path) -> tuple[SegmentTR, Cluster]:
    from fill import filled_state_dict

    segment, cluster = SegmentTR(), Cluster()
    segment.load_state_dict(filled_state_dict("cause_segment_tr.json"), strict=True)
    cluster.load_state_dict(filled_state_dict("cause_cluster_tr.json"), strict=True)
    return segment.eval(), cluster.eval()


@torch.no_grad()
def test_segment_tr__codes_flip_average_and_clusters(parity: Path, cause: tuple[SegmentTR, Cluster]) -> None:
    segment, cluster = cause
    stored = np.load(parity / "cause_tr.npz")
    seed = int(stored["seed"])
    codes = segment.head_ema(noise(seed, (1, 529, 768)), cluster.codebook)
    flipped = segment.head_ema(noise(seed + 1, (1, 529, 768)), cluster.codebook)
    np.testing.assert_allclose(codes[0].T.reshape(90, 23, 23), stored["code"], atol=1e-4)
    average = flip_average(codes, flipped, (23, 23))
    np.testing.assert_allclose(average[0], stored["code_flip_averaged"], atol=1e-4)
    full = F.interpolate(average[0].T.reshape(1, 90, 23, 23), size=(64, 64), mode="bilinear")
    log_probabilities = cluster.log_probabilities(full)[0]
    np.testing.assert_allclose(log_probabilities, stored["cluster_log_probability_64x64"], atol=1e-4)
    np.testing.assert_array_equal(log_probabilities.argmax(0), stored["cluster_64x64"])


@pytest.mark.parametrize("chunk", [5, 256])
def test_modularity_loss__equals_stored(parity: Path, chunk: int) -> None:
    stored = np.load(parity / "cause_modularity.npz")
    loss = modularity_loss(torch.from_numpy(stored["x"]), torch.from_numpy(stored["codebook"]), chunk)
    assert loss.item() == pytest.approx(float(stored["loss"]), rel=1e-4)


@torch.no_grad()
def test_dinov2__vits14_tokens(parity: Path) -> None:
    from fill import filled_state_dict

    stored = np.load(parity / "dinov2_vits14.npz")
    network = dinov2_vit("vits14")
    network.load_state_dict(filled_state_dict("dinov2_vits14.json"), strict=True)
    size = (1, 3, int(stored["height"]), int(stored["width"]))
    class_token, patches = network.eval()(noise(int(stored["seed"]), size))
    np.testing.assert_allclose(class_token[0], stored["class_token"], atol=1e-4)
    np.testing.assert_allclose(patches[0, :, ::8], stored["patch_tokens"], atol=1e-4)
