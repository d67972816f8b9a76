"""Training of DINOSAUR's slot attention on frozen features."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
from pseudo_labels.inputs.features import read_features
from pseudo_labels.networks.dinosaur import (
    Dinosaur,
    slot_noise,
    slot_picture,
    token_coordinates,
)
from pseudo_labels.networks.training import Fit
from pseudo_labels.steps.step import Folder, Frame

WEIGHTS = "dinosaur.pth"
SHOWN_FRAMES = 6


class TokenCrops(Dataset[dict[str, Tensor]]):
    """Random crops of mirrored or unmirrored feature maps.

    Items: `features` (h, w, F) float32 and `coordinates` (h, w, 2), the places in the whole (mirrored) image:
    features of a whole image know where they are in it, so positions must not be those in the crop.

    Args:
        grid: (rows, columns) of all feature maps; crop: those of the crops.
    """

    def __init__(
        self, frames: Sequence[Frame], features: Folder, grid: Sequence[int], crop: Sequence[int], seed: int
    ) -> None:
        self.frames = list(frames)
        self.features = features
        self.grid, self.crop = tuple(grid), tuple(crop)
        self.seed = seed
        self.coordinates = token_coordinates(*self.grid)

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, frame: Frame) -> Tensor:
        """Return the features of a frame, (rows, columns, F).

        Raises:
            UserError: unreadable, or another grid.
        """
        features = read_features(self.features, frame)
        if features.shape[:2] != self.grid:
            rows, columns = self.grid
            raise UserError(
                f"{self.features.path(frame)}: {features.shape[0]}x{features.shape[1]} tokens, the first "
                f"frame has {rows}x{columns}; train on images of one size"
            )
        return torch.from_numpy(features)

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, draw.number))
        features = self.read(self.frames[draw.frame])
        if rng.random() < 0.5:
            features = features.flip(1)
        places = zip(self.grid, self.crop, strict=True)
        starts = [int(rng.integers(whole - part + 1)) for whole, part in places]
        window = tuple(slice(start, start + part) for start, part in zip(starts, self.crop, strict=True))
        return {"features": features[window].contiguous(), "coordinates": self.coordinates[window]}


class DinosaurFit(Fit):
    """Training of the slots; draws their masks whenever a checkpoint is due."""

    def __init__(self, args: argparse.Namespace, network: Dinosaur, crops: TokenCrops, media: Path) -> None:
        super().__init__(args)
        self.network = network
        self.crops, self.media = crops, media

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then exponential decay (Seitzer et al., 2023), both in shares of the run."""
        warm_up = self.args.warm_up * self.args.steps
        half_life = self.args.half_life * self.args.steps
        rise = min(1.0, (step + 1) / warm_up) if warm_up > 0 else 1.0
        return rise * 0.5 ** (max(0.0, step - warm_up) / half_life)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean squared error of the reconstruction of (a random part of) the tokens."""
        features, coordinates = (batch[name].flatten(1, 2) for name in ("features", "coordinates"))
        count, tokens = features.shape[:2]
        noise = torch.randn(count, self.network.num_slots, self.network.slot_dim, device=features.device)
        decoded = None
        if 0 < self.args.decode_tokens < tokens:
            order = torch.rand(count, tokens, device=features.device).argsort(dim=1)
            decoded = order[:, : self.args.decode_tokens]
        result = self.network(features, coordinates, noise, decoded)
        return {"reconstruction": F.mse_loss(result.features.float(), result.target)}

    def on_train_batch_end(self, *_: Any) -> None:
        """Write `media/step_*.png`."""
        step = self.global_step
        due = step % self.args.save_every == 0 or step == self.args.steps
        if due and self.trainer.is_global_zero:
            write_png(self.media / f"step_{step:06d}.png", self.picture())

    def picture(self) -> np.ndarray:
        """Draw images and slots of frames spread over the data: (H, W, 3) uint8."""
        frames = self.crops.frames[:: -(-len(self.crops.frames) // SHOWN_FRAMES)]
        rows = []
        for frame in frames:
            features = self.crops.read(frame)[None].to(self.device)
            noise = slot_noise(self.network.num_slots, self.network.slot_dim, self.args.seed, frame.stem)
            alphas = self.network.masks(features, noise[None].to(self.device))[0]
            image = read_image(frame.image)
            slots = smooth_labels(alphas, (image.shape[0], image.shape[1])).cpu().numpy()
            rows.append([image, slot_picture(image, slots, self.network.num_slots)])
        return figure_sheet(["image", "slots"], rows, [frame.stem for frame in frames])
