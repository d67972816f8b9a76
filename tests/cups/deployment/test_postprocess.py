"""The merge in NumPy beside that of `cups.load(...).predict`."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from cups.builders.deployment import merge_settings
from cups.deployment import postprocess
from cups.deployment.postprocess import panoptic_of, semantic_of
from cups.model.graph import DeployedNetwork
from cups.model.sized import SizedInference
from tests.cups.conftest import make_tiny


def test_module__needs_numpy_alone() -> None:
    """A copy of the file stands beside each graph."""
    tree = ast.parse(Path(postprocess.__file__).read_text())
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    imported |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    assert imported == {"__future__", "collections.abc", "typing", "numpy"}


@pytest.mark.parametrize("size", [(64, 96), (160, 240)])
@pytest.mark.parametrize(("things_first", "weight"), [(False, 0.0), (True, 0.0), (True, 0.5)])
def test_panoptic_of__equals_the_network_with_its_merge(
    size: tuple[int, int], things_first: bool, weight: float
) -> None:
    overrides = ["MODEL.PANOPTIC_FPN.COMBINE.THINGS_FIRST", things_first]
    model = make_tiny(*overrides, confidence_threshold=0.05).eval()
    model.combine_semantic_weight = weight  # type: ignore[assignment]
    model.combine_stuff_area_fraction = 0.01  # type: ignore[assignment]
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    inference = SizedInference(model, (64, 96))
    ((expected, wanted),) = inference([pixels])
    from cups.ops.working_size import resize_pixels

    with torch.no_grad():
        outputs = DeployedNetwork(model)(torch.from_numpy(resize_pixels(pixels, (64, 96))))
    ids, segments = panoptic_of([part.numpy() for part in outputs], size, merge_settings(model))
    assert ids.dtype == np.int32 and (ids == expected.numpy()).mean() > 0.999
    assert [s["isthing"] for s in segments] == [s["isthing"] for s in wanted] and len(segments) > 2
    stuffs = outputs[0].shape[0] - 1
    places = [s["category_id"] + stuffs if s["isthing"] else s["category_id"] - 1 for s in wanted]
    assert [s["category"] for s in segments] == places
    scores, expected_scores = ([s["score"] for s in given if s["isthing"]] for given in (segments, wanted))
    assert scores == pytest.approx(expected_scores, rel=1e-3)


def test_semantic_of__is_torchs_bilinear_enlargement() -> None:
    logits = torch.randn((4, 7, 9), generator=torch.Generator().manual_seed(0))
    large = torch.nn.functional.interpolate(logits[None], (70, 31), mode="bilinear")[0]
    assert (semantic_of(logits.numpy(), (70, 31)) == large.argmax(0).numpy()).mean() > 0.999


def test_panoptic_of__objects_by_score_and_areas_by_hand() -> None:
    """Two equal boxes: the higher score takes all, the other is left out; stuff below the limit is void."""
    logits = np.zeros((3, 4, 8), dtype=np.float32)
    logits[1, :, :7], logits[2, :, 7] = 1, 1
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 4]], dtype=np.float32)
    outputs = [
        logits,
        boxes,
        np.array([0.6, 0.9], np.float32),
        np.array([0, 1]),
        np.ones((2, 28, 28), np.float32),
    ]
    settings = {
        "overlap_threshold": 0.5,
        "score_threshold": 0.5,
        "stuff_area_fraction": 0.0,
        "stuff_area_pixels": 5,
        "things_first": False,
        "semantic_weight": 0.0,
    }
    ids, segments = panoptic_of(outputs, (4, 8), settings)
    assert ids.tolist() == [[1, 1, 1, 1, 2, 2, 2, 0]] * 4
    assert segments == [
        {"id": 1, "isthing": True, "category": 3, "score": pytest.approx(0.9)},
        {"id": 2, "isthing": False, "category": 0, "area": 12},
    ]
