"""The networks' stored inputs and outputs, computed again on a device in float32."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cups.metrics import PanopticQualitySemanticMatching
from cups.model import panoptic_cascade_mask_r_cnn
from refs.cause import Cluster, SegmentTR, modularity_loss
from refs.cause.models import dinov2_vit
from refs.spidepth import SQLDepth

Deviations = dict[str, tuple[float, float]]
"""Quantity -> (largest deviation from what is stored, what the tests allow on a CPU)."""
Check = Callable[["Fixtures"], Deviations]


@contextmanager
def exact() -> Iterator[None]:
    """Switch off the short cuts of GPUs in float32 (TF32)."""
    matmul, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolutions.allow_tf32
    matmul.allow_tf32 = convolutions.allow_tf32 = False
    try:
        with torch.no_grad():
            yield
    finally:
        matmul.allow_tf32, convolutions.allow_tf32 = before


@dataclass(frozen=True)
class Fixtures:
    """The folder of the fixtures, and the device that is checked."""

    folder: Path
    device: str

    def stored(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays of `name.npz`."""
        with np.load(self.folder / f"{name}.npz", allow_pickle=False) as archive:
            return dict(archive)

    def weights(self, name: str) -> dict[str, Tensor]:
        """Return the weights that belong to the names and shapes in `name.json`."""
        spec = importlib.util.spec_from_file_location("fill", self.folder / "fill.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        state: dict[str, Tensor] = module.filled_state_dict(f"{name}.json")
        return state

    def noise(self, seed: Any, shape: tuple[int, ...], normal: bool = True) -> Tensor:
        """Return the input that a fixture was made with."""
        random = np.random.RandomState(int(seed))
        values = random.standard_normal(shape) if normal else random.rand(*shape)
        return torch.from_numpy(values.astype(np.float32)).to(self.device)


def largest(found: Any, stored: np.ndarray) -> float:
    """Return the largest absolute difference; infinity for another shape."""
    values = found.detach().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found)
    if values.shape != stored.shape:
        return float("inf")
    return float(np.abs(values.astype(np.float64) - stored).max(initial=0.0))


def panoptic_network(fixtures: Fixtures) -> Deviations:
    """Check the network of Stage 2 and 3."""
    name = "cups_panoptic_cascade_mask_r_cnn"
    stored = fixtures.stored(name)
    overrides = ["MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_FRACTION", 0.0]
    model = panoptic_cascade_mask_r_cnn(8, 20, 0.5, model_overrides=overrides, device=fixtures.device)
    model.load_state_dict(fixtures.weights(name), strict=True)
    image = torch.from_numpy(stored["image"]).to(fixtures.device)
    output = model.eval()([{"image": image}])[0]
    found = output["instances"]
    panoptic = output["panoptic_seg"][0].cpu().numpy()[::2, ::2]
    return {
        "semantic logits": (largest(output["sem_seg"][:, ::8, ::8], stored["sem_seg"]), 1e-3),
        "boxes, pixels": (largest(found.pred_boxes.tensor, stored["boxes"]), 0.6),
        "scores": (largest(found.scores, stored["scores"]), 1e-4),
        "share of other panoptic pixels": (float((panoptic != stored["panoptic"]).mean()), 4e-3),
    }


def depth_network(fixtures: Fixtures) -> Deviations:
    """Check SPIdepth."""
    stored = fixtures.stored("spidepth_convnextv2_atto")
    network = SQLDepth().eval()
    network.encoder.load_state_dict(fixtures.weights("spidepth_convnextv2_atto_encoder"), strict=True)
    network.depth_decoder.load_state_dict(fixtures.weights("spidepth_convnextv2_atto_depth"), strict=True)
    size = (1, 3, int(stored["height"]), int(stored["width"]))
    depth = network.to(fixtures.device)(fixtures.noise(stored["seed"], size, normal=False))[0, 0]
    return {
        "depth, relative": (
            largest(depth.cpu().numpy() / stored["depth"], np.ones_like(stored["depth"])),
            1e-4,
        )
    }


def dino(fixtures: Fixtures) -> Deviations:
    """Check DINOv2."""
    stored = fixtures.stored("dinov2_vits14")
    network: Any = dinov2_vit("vits14")
    network.load_state_dict(fixtures.weights("dinov2_vits14"), strict=True)
    size = (1, 3, int(stored["height"]), int(stored["width"]))
    token, patches = network.eval().to(fixtures.device)(fixtures.noise(stored["seed"], size))
    return {
        "class token": (largest(token[0], stored["class_token"]), 1e-4),
        "patch tokens": (largest(patches[0, :, ::8], stored["patch_tokens"]), 1e-4),
    }


def cause(fixtures: Fixtures) -> Deviations:
    """Check CAUSE's head, clusters and loss."""
    stored, loss = fixtures.stored("cause_tr"), fixtures.stored("cause_modularity")
    segment, cluster = SegmentTR(), Cluster()
    segment.load_state_dict(fixtures.weights("cause_segment_tr"), strict=True)
    cluster.load_state_dict(fixtures.weights("cause_cluster_tr"), strict=True)
    segment, cluster = segment.eval().to(fixtures.device), cluster.eval().to(fixtures.device)
    codes = segment.head_ema(fixtures.noise(stored["seed"], (1, 529, 768)), cluster.codebook)
    code = codes[0].T.reshape(90, 23, 23)
    average = torch.from_numpy(stored["code_flip_averaged"]).to(fixtures.device)
    full = F.interpolate(average.T.reshape(1, 90, 23, 23), size=(64, 64), mode="bilinear")
    x, codebook = (torch.from_numpy(loss[key]).to(fixtures.device) for key in ("x", "codebook"))
    return {
        "codes": (largest(code, stored["code"]), 1e-4),
        "log-probabilities": (
            largest(cluster.log_probabilities(full)[0], stored["cluster_log_probability_64x64"]),
            1e-4,
        ),
        "modularity loss, relative": (
            abs(modularity_loss(x, codebook).item() / float(loss["loss"]) - 1),
            1e-4,
        ),
    }


def panoptic_quality(fixtures: Fixtures) -> Deviations:
    """Check the metric against upstream's scores."""
    archive = fixtures.stored("panoptic_quality")
    result: Deviations = {}
    for case in ("a", "b", "c"):
        start = f"public_{case}/"
        stored = {key.removeprefix(start): value for key, value in archive.items() if key.startswith(start)}
        clusters = int(stored.pop("num_clusters"))
        split: dict[str, Any] = {}
        if stored.pop("separate_things_stuff"):
            split = {
                "things_prototype": range(11, 19),
                "stuffs_prototype": [*range(11), *range(19, clusters)],
            }
        metric = PanopticQualitySemanticMatching(
            range(11, 19), range(11), clusters, void_rule="upstream", **split
        ).to(fixtures.device)
        maps = (torch.from_numpy(stored.pop(key).astype(np.int64)) for key in ("prediction", "target"))
        prediction, target = (item.to(fixtures.device) for item in maps)
        metric.update(prediction, target)
        scores = metric.compute()
        result[f"scores, case {case}"] = (max(largest(scores[key], stored[key]) for key in stored), 1e-6)
    return result


CHECKS: dict[str, Check] = {
    "panoptic network": panoptic_network,
    "SPIdepth": depth_network,
    "DINOv2 ViT-S/14": dino,
    "CAUSE-TR": cause,
    "panoptic quality": panoptic_quality,
}


def parity_row(name: str, folder: Path, device: str) -> dict[str, Any]:
    """Return the deviations of one network, or why there are none."""
    if not (folder / "fill.py").is_file():
        return {"skipped": f"{folder}: no parity fixtures; run from the repository, or name their folder"}
    with exact():
        deviations = CHECKS[name](Fixtures(folder, device))
    return {"deviations": {quantity: list(pair) for quantity, pair in deviations.items()}}
