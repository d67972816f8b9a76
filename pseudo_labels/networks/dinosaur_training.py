"""Training of DINOSAUR's slot attention on frozen features."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from cups.errors import UserError
from cups.io.png import read_image, write_png
from cups.ops.smooth_labels import smooth_labels
from cups.structures import Draw
from cups.visualization import figure_sheet
from pseudo_labels.inputs.features import feature_statistics
from pseudo_labels.networks.devices import pick_device
from pseudo_labels.networks.dinosaur import (
    Dinosaur,
    save_dinosaur,
    slot_noise,
    slot_picture,
    token_coordinates,
)
from pseudo_labels.networks.frozen_features import FeatureReader, FeatureSource, Window, feature_source
from pseudo_labels.networks.training import Fit, train
from pseudo_labels.settings.dinosaur import TrainDinosaurSettings
from pseudo_labels.steps.frames import Frame, FrameSource, input_paths
from pseudo_labels.steps.left_out import readable
from pseudo_labels.steps.options import RunOptions

log = logging.getLogger(__name__)
SCRIPT = "train_dinosaur"
WEIGHTS = "dinosaur.pth"
SHOWN_FRAMES = 6


class TokenCrops(Dataset[dict[str, Tensor]]):
    """Random crops of mirrored or unmirrored feature maps.

    Items: `features` and `window` (what `FeatureSource.crops` makes the features (h, w, F) of), and
    `coordinates` (h, w, 2), the places in the whole (mirrored) image: features of a whole image know where
    they are in it, so positions must not be those in the crop.

    Args:
        grid: (rows, columns) of all feature maps; crop: those of the crops.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        features: FeatureSource,
        grid: Sequence[int],
        crop: Sequence[int],
        seed: int,
    ) -> None:
        self.frames = list(frames)
        self.features = features
        self.grid, self.crop = tuple(grid), tuple(crop)
        self.seed = seed
        self.coordinates = token_coordinates(*self.grid)

    def __len__(self) -> int:
        return len(self.frames)

    def sample(self, frame: Frame) -> Tensor:
        """Return a sample of the features of a frame.

        Raises:
            UserError: unreadable, or another grid.
        """
        sample = self.features.sample(frame)
        found = self.features.grid(sample)
        if found != self.grid:
            rows, columns = self.grid
            raise UserError(
                f"{self.features.name(frame)}: {found[0]}x{found[1]} tokens, the first frame has "
                f"{rows}x{columns}; train on images of one size"
            )
        return sample

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, draw.number))
        sample = self.sample(self.frames[draw.frame])
        mirrored = bool(rng.random() < 0.5)
        places = zip(self.grid, self.crop, strict=True)
        top, left = (int(rng.integers(whole - part + 1)) for whole, part in places)
        rows, columns = self.crop
        # The window lies in the grid as it is, the coordinates in the mirrored one.
        start = self.grid[1] - left - columns if mirrored else left
        window = Window(top, start, rows, columns, mirrored)
        coordinates = self.coordinates[top : top + rows, left : left + columns].contiguous()
        return {
            "features": self.features.cut(sample, window),
            "window": torch.tensor(window),
            "coordinates": coordinates,
        }


class DinosaurFit(Fit):
    """Training of the slots; draws their masks whenever a checkpoint is due."""

    settings: TrainDinosaurSettings

    def __init__(
        self, settings: TrainDinosaurSettings, network: Dinosaur, crops: TokenCrops, media: Path
    ) -> None:
        super().__init__(settings)
        self.network = network
        self.crops, self.media = crops, media

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then exponential decay (Seitzer et al., 2023), both in shares of the run."""
        warm_up = self.settings.warm_up * self.settings.steps
        half_life = self.settings.half_life * self.settings.steps
        rise = min(1.0, (step + 1) / warm_up) if warm_up > 0 else 1.0
        return rise * 0.5 ** (max(0.0, step - warm_up) / half_life)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean squared error of the reconstruction of (a random part of) the tokens."""
        features = self.crops.features.crops(batch["features"], batch["window"]).flatten(1, 2)
        coordinates = batch["coordinates"].flatten(1, 2)
        count, tokens = features.shape[:2]
        noise = torch.randn(count, self.network.num_slots, self.network.slot_dim, device=features.device)
        decoded = None
        if 0 < self.settings.decode_tokens < tokens:
            order = torch.rand(count, tokens, device=features.device).argsort(dim=1)
            decoded = order[:, : self.settings.decode_tokens]
        result = self.network(features, coordinates, noise, decoded)
        return {"reconstruction": F.mse_loss(result.features.float(), result.target)}

    def on_train_batch_end(self, *_: Any) -> None:
        """Write `media/step_*.png`."""
        step = self.global_step
        due = step % self.settings.save_every == 0 or step == self.settings.steps
        if due and self.trainer.is_global_zero:
            write_png(self.media / f"step_{step:06d}.png", self.picture())

    def picture(self) -> np.ndarray:
        """Draw images and slots of frames spread over the data: (H, W, 3) uint8."""
        frames = self.crops.frames[:: -(-len(self.crops.frames) // SHOWN_FRAMES)]
        rows = []
        for frame in frames:
            features = self.crops.features.maps(self.crops.sample(frame)[None].to(self.device))
            noise = slot_noise(self.network.num_slots, self.network.slot_dim, self.settings.seed, frame.stem)
            alphas = self.network.masks(features, noise[None].to(self.device))[0]
            image = read_image(frame.image)
            slots = smooth_labels(alphas, (image.shape[0], image.shape[1])).cpu().numpy()
            rows.append([image, slot_picture(image, slots, self.network.num_slots)])
        return figure_sheet(["image", "slots"], rows, [frame.stem for frame in frames])


def build_fit(
    settings: TrainDinosaurSettings, frames: Sequence[Frame], features: FeatureSource, media: Path
) -> tuple[DinosaurFit, dict[str, Any]]:
    """Return the network with seeded weights, and the arguments of its constructor."""
    read = FeatureReader(features, pick_device(settings.device))
    *grid, channels = read(frames[0]).shape
    shape = {
        "feature_dim": channels,
        "grid": list(settings.position_grid or grid),
        "num_slots": settings.num_slots,
        "slot_dim": settings.slot_dim,
        "iterations": settings.iterations,
        "decoder_dim": settings.decoder_dim,
        "decoder_layers": settings.decoder_layers,
        "encode_position": settings.is_on("encode_position"),
    }
    torch.manual_seed(settings.seed)
    network = Dinosaur(**shape)
    if settings.is_on("standardize"):
        statistics = feature_statistics(frames, read)
        network.set_statistics(statistics.mean, statistics.std)
    crop = [max(1, round(share * length)) for share, length in zip(settings.crop, grid, strict=True)]
    crops = TokenCrops(frames, features, grid, crop, settings.seed)
    return DinosaurFit(settings, network, crops, media), shape


def train_dinosaur(source: FrameSource, settings: TrainDinosaurSettings, run: RunOptions) -> None:
    """Train on the features of the source's images and write `dinosaur.pth`.

    Raises:
        UserError: missing features, grids that differ, a folder with another run.
    """
    source = readable(source, run)
    frames, root = source.frames(), run.root(source)
    features = feature_source(root, frames, settings, settings.device)
    settings = replace(settings, steps=settings.steps_over(len(frames)))
    folder = settings.checkpoint_dir or root / "dinosaur"
    fit, shape = build_fit(settings, frames, features, folder / "media")
    inputs = input_paths(features.inputs)
    train(fit, fit.crops, source, run, folder, script=SCRIPT, inputs=inputs, weights=features.weights)
    if fit.trainer.is_global_zero:
        weights = settings.backbone_checkpoint
        told = {
            "backbone": settings.backbone,
            "backbone_checkpoint": None if weights is None else str(weights),
        }
        save_dinosaur(folder / WEIGHTS, fit.network, shape, told)
        log.info("weights: %s", folder / WEIGHTS)
