"""The CAUSE heads on a backbone: loading, saving, and codes of a whole image by sliding windows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import refs.cause
from cups.backbones import NAMES, autocast, build_backbone, load_strict, load_tensors, normalize
from cups.errors import UserError
from cups.io.checkpoint import write_file
from cups.io.files import atomic_write
from cups.io.png import read_image
from cups.io.provenance import known_weights, read_provenance, trained_weights
from cups.io.weights import weight_files
from cups.ops.resize import resize_image
from pseudo_labels.steps.arguments import add_precision_argument, output_root, pick_precision
from refs.cause import Cluster, SegmentTR, flip_average

SEGMENT, CLUSTER, CODEBOOK, SETTINGS = "segment_tr.pth", "cluster_tr.pth", "modular.npy", "settings.json"
PUBLISHED_FOLDER = Path(refs.cause.__file__).parent / "CAUSE"
WINDOW_BATCH = 16


@dataclass(frozen=True)
class Tiling:
    """How an image is cut: resized to `height` pixels (0: as it is), windows of `window`, every `stride`."""

    height: int
    window: int
    stride: int


PUBLISHED_TILING = Tiling(height=644, window=322, stride=161)
TEXTON_TILING = Tiling(height=0, window=96, stride=48)


def default_tiling(backbone: str, patch: int) -> Tiling:
    """Return the published tiling in whole patches, or a small native-size one for the local backbone.

    Patches of 14 pixels give CAUSE's own numbers; patches of 16 windows of 320 pixels (20 x 20 tokens).
    """
    if backbone == "texton":
        return TEXTON_TILING
    height, window = (
        round(side / patch) * patch for side in (PUBLISHED_TILING.height, PUBLISHED_TILING.window)
    )
    return Tiling(height, window, window // 2)


@dataclass(frozen=True, eq=False)
class Standardizer:
    """Fixed per-channel centring of backbone features, fitted without labels by `train_cause`.

    CAUSE compares features by relu(cosine); all-positive features would all look alike.
    """

    mean: Tensor
    std: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """(B, D, H, W) -> (B, D, H, W), zero mean and unit (or weighted) variance over the fitting images."""
        return (features - self.mean.view(1, -1, 1, 1)) / self.std.view(1, -1, 1, 1)

    def to(self, device: torch.device) -> Standardizer:
        """Return a copy on `device`."""
        return Standardizer(self.mean.to(device), self.std.to(device))


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """Backbone, resizing and standardisation as one thing: image file -> features."""

    name: str
    backbone: nn.Module
    tiling: Tiling
    device: torch.device
    standardizer: Standardizer | None = None
    precision: torch.dtype = torch.float32
    batch: int = WINDOW_BATCH
    """Windows that the backbone takes at once."""

    @property
    def patch(self) -> int:
        """Pixels per token."""
        return int(self.backbone.patch_size)  # type: ignore[arg-type]

    @property
    def window(self) -> int:
        """Tokens along one side of a window."""
        return self.tiling.window // self.patch

    @property
    def stride(self) -> int:
        """Pixels between windows; whole tokens where windows are cut out of one feature map."""
        stride = self.tiling.stride
        return max(self.patch, stride // self.patch * self.patch) if self.backbone.local else stride

    def image(self, path: Path) -> Tensor:
        """Read an image and resize it for the backbone: see `prepare`."""
        return self.prepare(torch.from_numpy(read_image(path))[None])

    def prepare(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, 3, H', W') normalised, on the device.

        H' and W' are whole patches, and at least one window.
        """
        pixels = normalize(images.to(self.device, non_blocking=True))
        height, width = pixels.shape[-2:]
        target = self.tiling.height or height
        scale = max(target / height, self.tiling.window / height, self.tiling.window / width)
        size = (self._whole(height * scale), self._whole(width * scale))
        return resize_image(pixels, size, antialias=scale < 1)

    def _whole(self, pixels: float) -> int:
        # The same number of patches for every image of one shape; at least one window.
        return max(self.tiling.window, round(pixels / self.patch) * self.patch)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> standardised features (B, D, H/p, W/p), on the device."""
        with autocast(self.device, self.precision):
            features = self.backbone(images.to(self.device, non_blocking=True)).float()
        return self.standardizer(features) if self.standardizer is not None else features

    def windows(self, image: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
        """Cut an image (1, 3, H, W) into feature windows: (N, D, w, w), and their (top, left) in pixels."""
        height, width = image.shape[-2:]
        tops, lefts = (_starts(side, self.tiling.window, self.stride) for side in (height, width))
        places = [(top, left) for top in tops for left in lefts]
        if self.backbone.local:
            whole, p, w = self.features(image)[0], self.patch, self.window
            parts = [whole[:, y // p : y // p + w, x // p : x // p + w] for y, x in places]
            return torch.stack(parts), places
        size = self.tiling.window
        crops = torch.cat([image[..., y : y + size, x : x + size] for y, x in places])
        return torch.cat([self.features(part) for part in crops.split(self.batch)]), places


@dataclass(frozen=True, eq=False)
class CauseModel:
    """Trained heads with the extractor they were trained on."""

    extractor: FeatureExtractor
    segment: SegmentTR
    cluster: Cluster
    weights: list[dict[str, Any]] = field(default_factory=list)

    @torch.no_grad()
    def codes(self, image: Tensor) -> Tensor:
        """Return one code per token: prepared image (1, 3, H, W) -> (Hc, Wc, reduced_dim) on the device.

        Each window and its mirror image are averaged (CAUSE's test-time flip). Windows overlap; each token
        takes the mean over the windows that cover it, where a window that lies half a token off the image's
        grid is sampled bilinearly.
        """
        features, places = self.extractor.windows(image)
        mirrored, _ = self.extractor.windows(image.flip(3))
        mirrored = mirrored[_mirror_order(places, image.shape[-1], self.extractor.tiling.window)]
        patch, side = self.extractor.patch, self.extractor.window
        grid = (image.shape[-2] // patch, image.shape[-1] // patch)
        total, weight = None, features.new_zeros(grid)
        for part in torch.arange(len(places)).split(self.extractor.batch):
            codes = self._window_codes(features[part], mirrored[part])
            total = codes.new_zeros((codes.shape[1], *grid)) if total is None else total
            for index, code in zip(part.tolist(), codes, strict=True):
                down = _sampling(places[index][0] / patch, side, grid[0]).to(code)
                across = _sampling(places[index][1] / patch, side, grid[1]).to(code)
                total += down @ code @ across.T
                weight += down.sum(1)[:, None] * across.sum(1)
        assert total is not None
        return (total / weight.clamp_min(1e-6)).permute(1, 2, 0)

    def _window_codes(self, features: Tensor, mirrored: Tensor) -> Tensor:
        grid = (features.shape[2], features.shape[3])
        both = [
            self.segment.head_ema(part.flatten(2).transpose(1, 2), self.cluster.codebook, grid)
            for part in (features, mirrored)
        ]
        return flip_average(both[0], both[1], grid).transpose(1, 2).unflatten(2, grid)


def _starts(length: int, window: int, stride: int) -> list[int]:
    """Window starts that cover `length`; the last one ends at the border."""
    starts = list(range(0, max(length - window, 0) + 1, stride))
    if starts[-1] + window < length:
        starts.append(length - window)
    return starts


def _mirror_order(places: Sequence[tuple[int, int]], width: int, window: int) -> list[int]:
    """For each window the one of the mirrored image that shows the same pixels, or the closest."""
    keys = np.array(places)
    wanted = np.stack((keys[:, 0], width - window - keys[:, 1]), axis=1)
    return [int(np.abs(keys - place).sum(axis=1).argmin()) for place in wanted]


def _sampling(offset: float, side: int, length: int) -> Tensor:
    """Return (length, side): bilinear weights of a window's tokens for the image's tokens; 0 outside it."""
    position = torch.arange(length, dtype=torch.float32) - offset
    inside = (position > -0.75) & (position < side - 0.25)
    position = position.clamp(0, side - 1)
    tokens = torch.arange(side, dtype=torch.float32)
    return (1 - (position[:, None] - tokens).abs()).clamp_min(0) * inside[:, None]


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose backbone, heads and tiling."""
    model = parser.add_argument_group("model")
    model.add_argument("--backbone", choices=NAMES, help="feature extractor (default: the heads' own)")
    model.add_argument("--backbone_checkpoint", type=Path, help="its weights (default: beside the heads)")
    model.add_argument(
        "--checkpoint_dir",
        type=Path,
        help="folder of the heads (default: refs/cause/CAUSE; texton: cause_texton)",
    )
    model.add_argument(
        "--height", type=int, help="image height for the backbone, 0: native (ViT/14 644, texton 0)"
    )
    model.add_argument("--window", type=int, help="window side in pixels (ViT/14 322, ViT/16 320, texton 96)")
    model.add_argument("--stride", type=int, help="pixels between windows (half a window)")
    add_precision_argument(model)


def checkpoint_folder(args: argparse.Namespace) -> Path:
    """Return `--checkpoint_dir`, or the default of the backbone."""
    if args.checkpoint_dir is not None:
        return Path(args.checkpoint_dir)
    return output_root(args) / "cause_texton" if args.backbone == "texton" else PUBLISHED_FOLDER


def build_extractor(
    args: argparse.Namespace,
    folder: Path,
    settings: dict[str, Any],
    device: torch.device,
    batch: int = WINDOW_BATCH,
) -> FeatureExtractor:
    """Return the extractor that flags and the heads' own settings describe.

    Raises:
        UserError: another backbone than the heads were trained on, missing weights, impossible windows.
    """
    trained_on = settings.get("backbone")
    name = args.backbone or trained_on or "dinov2_vitb14"
    if trained_on is not None and name != trained_on:
        raise UserError(f"{folder}: heads of backbone {trained_on}, not {name}; change --checkpoint_dir")
    checkpoint = args.backbone_checkpoint
    if checkpoint is None and name != "texton":
        beside = folder / weight_files(name)[0].path.name
        checkpoint = beside if beside.is_file() else None
    backbone = build_backbone(name, checkpoint).to(device)
    patch = int(backbone.patch_size)  # type: ignore[arg-type]
    defaults = settings.get("tiling") or asdict(default_tiling(name, patch))
    given = {key: getattr(args, key) for key in ("height", "window", "stride")}
    tiling = Tiling(**{key: defaults[key] if value is None else value for key, value in given.items()})
    if tiling.window < patch or tiling.window % patch or tiling.stride < 1 or tiling.height < 0:
        raise UserError(
            f"--window {tiling.window}: must be a multiple of the patch size {patch} (stride >= 1)"
        )
    return FeatureExtractor(
        name, backbone, tiling, device, precision=pick_precision(args, device), batch=batch
    )


def load_cause(args: argparse.Namespace, device: torch.device, batch: int = WINDOW_BATCH) -> CauseModel:
    """Load heads (published, or of `train_cause`) and their backbone, which takes `batch` windows at once.

    Raises:
        UserError: missing folder or file, weights that do not fit together.
    """
    folder = checkpoint_folder(args)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; train heads with train_cause.py or give --checkpoint_dir")
    settings = read_settings(folder)
    extractor = build_extractor(args, folder, settings, device, batch)
    segment = build_segment(load_tensors(folder / SEGMENT), folder / SEGMENT)
    tensors = load_tensors(folder / CLUSTER)
    if not {"codebook", "cluster_probe"} <= tensors.keys():
        raise UserError(f"{folder / CLUSTER}: lacks codebook or cluster_probe; give the published file")
    codebook, probe = tensors["codebook"], tensors["cluster_probe"]
    cluster = Cluster(codebook.shape[1], probe.shape[1], len(codebook), len(probe))
    load_strict(cluster, folder / CLUSTER)
    dim = segment.head.query_pos.shape[1]
    if not dim == codebook.shape[1] == extractor.backbone.embed_dim:
        raise UserError(
            f"{folder}: heads take {dim} channels, backbone {extractor.name} gives another number"
        )
    if "mean" in settings:
        mean, std = (torch.tensor(settings[key], dtype=torch.float32) for key in ("mean", "std"))
        extractor = replace(extractor, standardizer=Standardizer(mean, std).to(device))
    return CauseModel(
        extractor, segment.to(device).eval(), cluster.to(device).eval(), head_weights(folder, extractor.name)
    )


def head_weights(folder: Path, backbone: str) -> list[dict[str, Any]]:
    """Return the provenance entries of the heads in `folder` and of the backbone's weights."""
    segment, cluster = folder / SEGMENT, folder / CLUSTER
    if read_provenance(folder) is None:
        heads = [known_weights("cause_segment_tr", segment), known_weights("cause_cluster_tr", cluster)]
    else:
        heads = [trained_weights(segment, segment, cluster)]
    return [*heads, *([] if backbone == "texton" else [known_weights(backbone)])]


def build_segment(tensors: dict[str, Tensor], path: Path) -> SegmentTR:
    """Make the head that a state dict fits (all sizes are read off its shapes) and load it."""
    try:
        queries, dim = tensors["head.query_pos"].shape
        projection, reduced = tensors["projection_head.f.weight"].shape[:2]
        classes = len(tensors["linear.f.weight"])
        hidden = len(tensors["head.tr.linear1.weight"])
        segment = SegmentTR(dim, reduced, projection, classes, queries, hidden)
        segment.load_state_dict(tensors, strict=True)
    except (KeyError, RuntimeError, ValueError) as error:
        detail = " ".join(str(error).split())[:150]
        raise UserError(f"{path}: not a segment_tr checkpoint ({detail}); check --checkpoint_dir") from None
    return segment


def read_settings(folder: Path) -> dict[str, Any]:
    """Return `settings.json` of heads trained here; empty for published ones."""
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON ({error}); train the heads again") from None


def save_heads(folder: Path, segment: SegmentTR, cluster: Cluster, settings: dict[str, Any]) -> None:
    """Write heads in the published layout, atomically, and `settings.json` beside them."""
    write_file(folder / SEGMENT, segment.state_dict())
    write_file(folder / CLUSTER, cluster.state_dict())
    codebook = cluster.codebook.detach().cpu().numpy().astype(np.float32)
    atomic_write(folder / CODEBOOK, lambda path: np.save(path, codebook))
    text = json.dumps(settings, indent=2) + "\n"
    atomic_write(folder / SETTINGS, lambda path: path.write_text(text))
