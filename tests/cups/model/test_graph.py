"""The exported graph beside the network: the parity input, other sizes, images without objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cups.errors import UserError
from cups.model import graph, panoptic_cascade_mask_r_cnn
from cups.model.graph import DeployedNetwork, largest_difference, trial_images, write_graph

Builder = Callable[..., nn.Module]


@pytest.fixture(scope="module")
def tiny(build_tiny: Builder) -> DeployedNetwork:
    return DeployedNetwork(build_tiny(confidence_threshold=0.05).eval())


@pytest.fixture(autouse=True)
def _plain_execution() -> Iterator[None]:
    """What a graph computes, without the seconds in which its first runs are looked at and rewritten."""
    with torch.jit.optimized_execution(False):
        yield


def test_write_graph__torchscript_equals_the_network_on_the_parity_input(
    parity: Path, tmp_path: Path
) -> None:
    from fill import filled_state_dict

    model = panoptic_cascade_mask_r_cnn(8, 20, 0.5)
    model.load_state_dict(filled_state_dict("cups_panoptic_cascade_mask_r_cnn.json"), strict=True)
    network = DeployedNetwork(model)
    image = torch.from_numpy(np.load(parity / "cups_panoptic_cascade_mask_r_cnn.npz")["image"])
    pixels = (image * 255).round().byte().permute(1, 2, 0).contiguous()
    # Traced at another size: the graph takes the parity input all the same.
    read = graph._write_torchscript(network, trial_images((64, 96))[0], tmp_path / "n.ts")
    assert largest_difference(network, read, [pixels]) < 1e-3
    with torch.no_grad():
        logits, boxes, scores, _, masks = read(pixels)
        (expected,) = model([{"image": pixels.permute(2, 0, 1) / 255}])
    assert logits.shape == (20, 192, 384) and len(boxes) == len(masks) == len(expected["instances"]) > 0
    np.testing.assert_allclose(scores, expected["instances"].scores, atol=1e-3)
    np.testing.assert_allclose(logits, expected["sem_seg"], atol=1e-3)


def test_write_graph__sizes_that_need_padding_and_images_without_objects(
    tiny: DeployedNetwork, tmp_path: Path
) -> None:
    write_graph(tiny, (64, 96), tmp_path / "n.ts", "torchscript")
    read = torch.jit.load(str(tmp_path / "n.ts"))
    tiny.model.roi_heads.box_predictor[-1].test_score_thresh = 2.0
    write_graph(tiny, (64, 96), tmp_path / "empty.ts", "torchscript")
    nothing = torch.jit.load(str(tmp_path / "empty.ts"))
    tiny.model.roi_heads.box_predictor[-1].test_score_thresh = 0.05
    for size in ((50, 70), (96, 33)):
        images = trial_images(size, seed=1)
        assert largest_difference(tiny, read, images) < 1e-3
        logits, boxes, _, _, masks = nothing(images[1])
        assert logits.shape == (5, *size) and boxes.shape == (0, 4) and masks.shape == (0, 28, 28)
    counts = {len(read(image)[1]) for size in ((64, 96), (50, 70)) for image in trial_images(size)}
    assert len(counts) > 1, "images with different numbers of objects tell the graph from a recording"


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
