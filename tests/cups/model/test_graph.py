"""The exported graph beside the network: the parity input, other sizes, images without objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cups.errors import UserError
from cups.model import graph
from cups.model.graph import DeployedNetwork, largest_difference, traced, trial_images, write_graph

Builder = Callable[..., nn.Module]


@pytest.fixture(scope="module")
def tiny(build_tiny: Builder) -> DeployedNetwork:
    return DeployedNetwork(build_tiny(confidence_threshold=0.05).eval())


@pytest.fixture(autouse=True)
def _plain_execution() -> Iterator[None]:
    """What a graph computes, without the seconds in which its first runs are looked at and rewritten."""
    with torch.jit.optimized_execution(False):
        yield


def test_traced__equals_the_network_on_the_parity_input(parity: Path, parity_model: nn.Module) -> None:
    network = DeployedNetwork(parity_model)
    image = torch.from_numpy(np.load(parity / "cups_panoptic_cascade_mask_r_cnn.npz")["image"])
    pixels = (image * 255).round().byte().permute(1, 2, 0).contiguous()
    # Traced at another size: the graph takes the parity input all the same.
    read = traced(network, trial_images((64, 96))[0])
    assert largest_difference(network, read, [pixels]) < 1e-3


def test_deployed_network__says_what_the_network_says(tiny: DeployedNetwork) -> None:
    (pixels, *_) = trial_images((64, 96))
    with torch.no_grad():
        logits, boxes, scores, classes, masks = tiny(pixels)
        (expected,) = tiny.model([{"image": pixels.permute(2, 0, 1) / 255}])
    found = expected["instances"]
    assert logits.shape == (5, 64, 96) and len(boxes) == len(masks) == len(scores) > 0
    torch.testing.assert_close(scores[: len(found)], found.scores)
    torch.testing.assert_close(logits, expected["sem_seg"])
    assert set(classes.tolist()) <= {0, 1, 2} and masks.min() >= 0 and masks.max() <= 1


def test_write_graph__images_that_need_padding(tiny: DeployedNetwork, tmp_path: Path) -> None:
    assert write_graph(tiny, (64, 96), tmp_path / "n.ts", "torchscript") < 1e-3
    read = torch.jit.load(str(tmp_path / "n.ts"))
    images = trial_images((50, 70), seed=1)[:2]
    assert largest_difference(tiny, read, images) < 1e-3
    logits, boxes, *_ = read(images[0])
    assert logits.shape == (5, 50, 70)
    assert len(boxes) != len(read(trial_images((64, 96))[0])[1]), "a recording would find as many everywhere"


def test_traced__images_without_objects(tiny: DeployedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny.model.roi_heads.box_predictor[-1], "test_score_thresh", 2.0)
    image = trial_images((64, 96))[1]
    logits, boxes, _, _, masks = traced(tiny, image)(image)
    assert logits.shape == (5, 64, 96) and boxes.shape == (0, 4) and masks.shape == (0, 28, 28)


def test_largest_difference__whatever_the_order_of_objects(tiny: DeployedNetwork) -> None:
    (image, *_) = trial_images((64, 96))

    def shuffled(seen: Tensor) -> list[Tensor]:
        logits, *rest = tiny(seen)
        return [logits, *(part.flip(0) for part in rest)]

    assert largest_difference(tiny, shuffled, [image]) < 1e-6
    assert largest_difference(tiny, lambda seen: [part[:-1] for part in tiny(seen)], [image]) == float("inf")
    moved = largest_difference(tiny, lambda seen: [part + 0.5 for part in tiny(seen)], [image])
    assert moved == pytest.approx(0.5, abs=1e-5)


def test_write_graph__one_that_differs_is_not_kept(
    tiny: DeployedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "n.ts"
    path.write_bytes(b"before")

    def other(network: DeployedNetwork, image: Tensor, temporary: Path) -> graph.Graph:
        temporary.write_bytes(b"wrong")
        return lambda seen: [part + 0.01 for part in network(seen)]

    monkeypatch.setattr(graph, "_write_torchscript", other)
    with pytest.raises(UserError, match=r"differs from the network by .* is not kept"):
        write_graph(tiny, (64, 96), path, "torchscript")
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_traceable__detectron2_is_as_before() -> None:
    with pytest.raises(ZeroDivisionError), graph._traceable():
        assert graph.fast_rcnn.len is not None and graph.cascade_rcnn._ScaleGradient is graph._Unscaled
        _ = 1 / 0
    assert graph.cascade_rcnn._ScaleGradient is not graph._Unscaled
    assert not hasattr(graph.fast_rcnn, "len")


def test_write_graph__onnx(tiny: DeployedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    difference = write_graph(tiny, (64, 96), tmp_path / "n.onnx", "onnx")
    assert difference is not None and difference < 1e-3


def test_write_graph__onnx_without_its_package(
    tiny: DeployedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="the package `onnx` is missing"):
        write_graph(tiny, (64, 96), tmp_path / "n.onnx", "onnx")
    assert not list(tmp_path.iterdir())
