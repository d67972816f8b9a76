"""The panoptic network as one graph that runs without this project: TorchScript, or ONNX.

The graph holds preprocessing (bytes to numbers, normalisation, padding), trunk, pyramid, all heads, and their
suppression of doubles. What paints one map of its outputs loops over objects: it is NumPy,
`cups.deployment.postprocess`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.modeling.roi_heads import cascade_rcnn, fast_rcnn, mask_head
from detectron2.structures import Boxes, Instances
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from cups.errors import UserError
from cups.io.files import atomic_write
from cups.ops.working_size import Size

Graph = Callable[[Tensor], Any]
"""(H, W, 3) uint8 -> the outputs, in the order of `OUTPUTS`."""
INPUT = "image"
OUTPUTS = ("semantic_logits", "boxes", "scores", "classes", "masks")
TOLERANCE = 1e-3
"""Largest difference between the outputs of a graph and the network's that an export accepts. Boxes,
in pixels, count relative to the longer side of the image."""
OPSET = 17
"""Of ONNX: the first with all that is used; readers of 2022 and later know it."""
NO_ONNX = "the package `onnx` is missing, which writes ONNX; install it with pip install -e '.[onnx]'"


class DeployedNetwork(nn.Module):
    """A panoptic network from pixels to what its heads say, in tensors alone.

    Args:
        model: `CustomPanopticFPN`, evaluation mode.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return what the heads say of one image.

        Args:
            image: (H, W, 3) uint8 RGB, at the size at which the network was trained.

        Returns:
            logits (S+1, H, W) float32 of "some thing" and stuff; boxes (N, 4) float32 XYXY pixels,
            scores (N,) float32 in 0-1, thing indices (N,) int64, and masks (N, M, M) float32 in 0-1, each
            spanning its box. Objects stand in falling score.
        """
        network = self.model
        images = network.preprocess_image([{"image": image.permute(2, 0, 1).float() / 255.0}])
        features = network.backbone(images.tensor)
        logits, _ = network.sem_seg_head(features, None)
        proposals, _ = network.proposal_generator(images, features, None)
        (found,) = network.roi_heads.detect_boxes(features, proposals)
        # A box more than there are: layers that meet no object at all are a special case in no format.
        boxes, scores, classes = found.pred_boxes.tensor, found.scores, found.pred_classes
        more = Instances(found.image_size)
        more.pred_boxes = Boxes(torch.cat((boxes, boxes.new_tensor([[0.0, 0.0, 1.0, 1.0]]))))
        more.pred_classes = torch.cat((classes, classes.new_zeros(1)))
        (masked,) = network.roi_heads.forward_with_given_boxes(features, [more])
        inside = logits[0, :, : image.shape[0], : image.shape[1]]
        return inside, boxes, scores, classes, masked.pred_masks[:-1, 0]


class _Unscaled:
    """Stands in for the scaling of gradients, which no graph can hold and no prediction needs."""

    @staticmethod
    def apply(values: Tensor, scale: float) -> Tensor:
        """Return the values."""
        del scale
        return values


@contextmanager
def _traceable() -> Iterator[None]:
    """Let detectron2 be traced: counts of objects stay values of the graph, not numbers of this image."""

    def count(value: Any) -> Any:
        return value.__len__()  # `len` makes a number of it

    lengths: Sequence[Any] = (fast_rcnn, mask_head)
    scaling = cascade_rcnn._ScaleGradient
    for module in lengths:
        module.len = count
    cascade_rcnn._ScaleGradient = _Unscaled
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracing tells of each constant, also of those that are ones
            yield
    finally:
        cascade_rcnn._ScaleGradient = scaling
        for module in lengths:
            del module.len


def write_graph(network: DeployedNetwork, size: Size, path: Path, kind: str, seed: int = 0) -> float | None:
    """Write a network as one graph, after its outputs were found to be the network's.

    Args:
        size: (H, W) of the image that is traced; ONNX takes no other, TorchScript takes any.
        path: of the graph; written whole or not at all.
        kind: "torchscript" or "onnx".
        seed: of the images on which both are compared.

    Returns:
        The largest difference (`largest_difference`), None where onnxruntime is missing to measure it.

    Raises:
        UserError: the outputs differ by more than `TOLERANCE`, or a package is missing.
    """
    images = trial_images(size, seed)
    write = _write_torchscript if kind == "torchscript" else _write_onnx
    found: list[float | None] = []

    def write_checked(temporary: Path) -> None:
        graph = write(network, images[0], temporary)
        found.append(None if graph is None else require_equal(network, graph, images))

    atomic_write(path, write_checked)
    return found[0]


def traced(network: DeployedNetwork, image: Tensor) -> Any:
    """Return the graph of a network as TorchScript, which takes images of any size."""
    with _traceable():
        return torch.jit.trace(network, (image,), check_trace=False)


def _write_torchscript(network: DeployedNetwork, image: Tensor, path: Path) -> Graph:
    graph = traced(network, image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # later versions of torch will have another format
        torch.jit.save(graph, str(path))
        read: Graph = torch.jit.load(str(path))  # a file of our own, written just now
    return read


def _write_onnx(network: DeployedNetwork, image: Tensor, path: Path) -> Graph | None:
    if find_spec("onnx") is None:
        raise UserError(NO_ONNX)
    with _traceable():
        torch.onnx.export(
            network,
            (image,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "objects"} for name in OUTPUTS[1:]},
        )
    return _onnx_runner(path)


def _onnx_runner(path: Path) -> Graph | None:
    """Return the graph as onnxruntime runs it; None where that is not installed."""
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda image: [torch.from_numpy(part) for part in session.run(None, {INPUT: image.numpy()})]


def trial_images(size: Size, seed: int = 0) -> list[Tensor]:
    """Return pictures (H, W, 3) uint8 on which a graph is compared: smooth, noisy, a slope."""
    height, width = size
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    coarse = torch.from_numpy(generator.random((1, 3, 8, 16), dtype=np.float32) * 255)
    smooth = nn.functional.interpolate(coarse, size, mode="bilinear")[0].permute(1, 2, 0).byte()
    slope = torch.linspace(0, 255, height).byte()[:, None, None].expand(height, width, 3)
    return [smooth.contiguous(), torch.from_numpy(noise), slope.contiguous()]


@torch.no_grad()
def largest_difference(network: DeployedNetwork, graph: Graph, images: Sequence[Tensor]) -> float:
    """Return the largest difference between outputs of a graph and the network, infinite where counts differ.

    Objects are compared whatever their order: scores that are equal up to rounding may change places. Boxes
    count relative to the longer side of the image.
    """
    worst = 0.0
    for image in images:
        (logits, *own), (other_logits, *other) = network(image), graph(image)
        if logits.shape != other_logits.shape or [p.shape for p in own] != [p.shape for p in other]:
            return float("inf")
        order = _same_objects(own, other)
        differences = [logits - other_logits, *(a - b[order] for a, b in zip(own, other, strict=True))]
        differences[1] = differences[1] / max(image.shape[:2])
        worst = max(worst, *(float(part.abs().max()) for part in differences if part.numel()))
    return worst


def _same_objects(own: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Return the number among others' objects of each own: those whose boxes and classes lie nearest."""
    tables = [
        torch.cat((boxes, scores[:, None], 1e4 * classes[:, None]), dim=1)
        for boxes, scores, classes, _ in (own, other)
    ]
    _, order = linear_sum_assignment(torch.cdist(tables[0].double(), tables[1].double(), p=1).numpy())
    return torch.from_numpy(order)


def require_equal(network: DeployedNetwork, graph: Graph, images: Sequence[Tensor]) -> float:
    """Return `largest_difference`.

    Raises:
        UserError: it exceeds `TOLERANCE`.
    """
    found = largest_difference(network, graph, images)
    if not found <= TOLERANCE:
        raise UserError(
            f"the exported graph differs from the network by {found:.2g}, more than {TOLERANCE:g}, and "
            "is not kept; export the other `formats`, and report the versions of torch and torchvision"
        )
    return found
