"""A trained panoptic network, opened from its checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from cups.allowed import is_text
from cups.categories import Categories, load_categories, named_categories
from cups.defaults import CONFIDENCE_THRESHOLD
from cups.errors import UserError
from cups.io.checkpoint import Checkpoint, load_checkpoint
from cups.io.png import read_image
from cups.model.architecture import MOST_CLASSES
from cups.model.merge_choices import MergeChoices
from cups.model.model import network_of
from cups.model.sized import SizedInference
from cups.prediction import PanopticPrediction, prediction_of
from cups.structures import PseudoClasses, ThingStuffSplit

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

PUBLISHED_SIZE = (640, 1280)
"""(H, W) of the training images of the published checkpoints (CUPS, Hahn et al., CVPR 2025)."""
LARGEST_IMAGE, LONGEST_SIDE = 2**25, 16384
"""Pixels, and pixels of a side, to which a checkpoint may have images resized: 4096 x 8192."""


@dataclass(frozen=True, eq=False)
class PanopticNetwork:
    """A network in evaluation mode and the pseudo-classes behind its outputs.

    Attributes:
        model: `[{"image": (3, H, W) float RGB 0-1}]` -> `[{"sem_seg", "instances", "panoptic_seg"}]`.
        split: which pseudo-classes are things and which stuff, in the order of the network's outputs.
        categories: what the pseudo-classes are called.
        working_size: (H, W) of the training images, to which `predict` brings every image; None leaves them.
    """

    model: nn.Module
    split: ThingStuffSplit
    categories: Categories
    working_size: tuple[int, int] | None = None

    def __call__(self, images: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the model's output of each image, without gradients, at the size of the image."""
        with torch.no_grad():
            outputs: list[dict[str, Any]] = self.model(images)
        return outputs

    @cached_property
    def inference(self) -> SizedInference:
        """The model for images of any size."""
        return SizedInference(self.model, self.working_size)

    def predict(self, image: str | Path | np.ndarray | Image) -> PanopticPrediction:
        """Predict one image of any size; the maps have its size.

        Args:
            image: file, PIL image, or (H, W, 3) uint8 RGB.

        Raises:
            UserError: a file that cannot be read.
            TypeError, ValueError: an array of another kind.
        """
        return self.predict_batch([as_pixels(image)])[0]

    def predict_batch(self, images: Sequence[np.ndarray]) -> list[PanopticPrediction]:
        """Predict (H, W, 3) uint8 RGB images of one size in one forward pass."""
        pseudo = self.split.pseudo_classes
        outputs = self.inference(images)
        return [
            prediction_of(image, numbers.cpu().numpy(), segments, self.categories, pseudo)
            for image, (numbers, segments) in zip(images, outputs, strict=True)
        ]


def as_pixels(image: Any) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB of a file, a PIL image (turned as its camera says) or such an array.

    Raises:
        UserError: a file that cannot be read.
        TypeError, ValueError: an array of another dtype or shape.
    """
    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    if hasattr(image, "getexif"):
        from PIL import ImageOps

        image = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise TypeError(f"an image is a path, a PIL image or a NumPy array, not {type(image).__name__}")
    if image.dtype != np.uint8:
        raise TypeError(f"an image array holds uint8 values, not {image.dtype}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"an image array has the shape (H, W, 3), not {image.shape}")
    return image


def load(
    path: str | Path,
    device: torch.device | str = "cpu",
    confidence_threshold: float = CONFIDENCE_THRESHOLD,
    *,
    prefer_teacher: bool = False,
    names: str | Path | None = None,
    working_size: tuple[int, int] | None = None,
    snap_to_regions: bool | None = None,
    semantic_weight: float | None = None,
    model_config: str | Path | None = None,
) -> PanopticNetwork:
    """Open a checkpoint of this project, or a published one of CUPS.

    Args:
        path: the checkpoint, or a folder of `model.safetensors` and `config.json` (`scripts/export.py`).
        device: where the network runs.
        confidence_threshold: lowest score of an instance, 0-1.
        prefer_teacher: of a self-training checkpoint, take the averaged teacher, not the student.
        names: file of class names; by default the one beside the checkpoint, see `cups.categories`.
        working_size: (H, W) of the training images; by default as the checkpoint says.
        snap_to_regions: whether stuff follows the edges of the image; by default as it was trained.
        semantic_weight: of the semantic head in an instance's score, 0-1; by default as it was trained.
        model_config: YAML of the architecture, for a checkpoint of an earlier version that was trained with a
            file of one's own; all others hold theirs.

    Raises:
        UserError: if the file is no such checkpoint.

    Example:
        >>> import cups
        >>> network = cups.load("run/checkpoints/last.ckpt")
        >>> prediction = network.predict("photo.jpg")
        >>> prediction.semantic.shape  # that of the photograph
        (3024, 4032)
        >>> prediction.segments[0].name
        'stuff 3'
    """
    checkpoint = load_checkpoint(path, prefer_teacher)
    model, pseudo = network_of(checkpoint, device, confidence_threshold, model_config)
    MergeChoices(snap_to_regions, semantic_weight).apply(model)
    split = split_of(checkpoint, pseudo)
    own = own_classes(checkpoint, split)
    categories = load_categories(checkpoint.path, pseudo, Path(names) if names else None, own)
    return PanopticNetwork(model, split, categories, working_size or working_size_of(checkpoint))


def working_size_of(checkpoint: Checkpoint) -> tuple[int, int] | None:
    """Return the (H, W) that a typical training image had.

    Checkpoints of before 0.5 do not tell it: there the crop of their configuration stands for it. Published
    ones have no configuration of ours. None, with a warning, where nothing is known.
    """
    stored = checkpoint.hyper_parameters
    if "working_size" in stored:
        size = stored["working_size"]
    elif isinstance(stored.get("config"), dict):
        size = checkpoint.section("config", "DATA").get("CROP_RESOLUTION")
    else:
        size = None if "model" in stored else PUBLISHED_SIZE
    pair = isinstance(size, list | tuple) and len(size) == 2 and all(type(side) is int for side in size)
    if not pair or min(size) < 1:
        log.warning(
            "%s: does not say at what size it was trained; images are predicted at their own size",
            checkpoint.path,
        )
        return None
    height, width = size
    if height * width > LARGEST_IMAGE or max(size) > LONGEST_SIDE:
        raise UserError(
            f"{checkpoint.path}: says that it was trained at {min(height, 10**9)}x{min(width, 10**9)}, "
            "more pixels than can be; give `working_size`"
        )
    return height, width


def split_of(checkpoint: Checkpoint, pseudo: PseudoClasses) -> ThingStuffSplit:
    """Return the pseudo-classes behind a network; without a record of them, the published numbering.

    Raises:
        UserError: a record that does not fit the weights.
    """
    things = stored_classes(checkpoint, "thing", pseudo.thing_ids)
    stuffs = stored_classes(checkpoint, "stuff", pseudo.stuff_ids)
    if (len(things), len(stuffs)) != (pseudo.things, pseudo.stuffs):
        raise UserError(
            f"{checkpoint.path}: names {len(things)} thing and {len(stuffs)} stuff pseudo-classes, its "
            f"weights have {pseudo.things} and {pseudo.stuffs}; train Stage 2 again"
        )
    return ThingStuffSplit(things, stuffs)


def stored_classes(checkpoint: Checkpoint, kind: str, default: Sequence[int] = ()) -> tuple[int, ...]:
    """Return the pseudo-classes of a kind (thing, stuff) that a checkpoint names, `default` if it names none.

    Raises:
        UserError: a record that is no list of different whole numbers of 16 bits.
    """
    told = checkpoint.hyper_parameters.get(f"{kind}_pseudo_classes", default)
    numbers = isinstance(told, list | tuple | range) and all(type(value) is int for value in told)
    if not numbers or len(set(told)) != len(told) or not all(0 <= value <= MOST_CLASSES for value in told):
        raise UserError(
            f"{checkpoint.path}: its {kind} pseudo-classes are no list of numbers up to {MOST_CLASSES}; "
            "get the checkpoint again from where it was trained"
        )
    return tuple(told)


def own_classes(checkpoint: Checkpoint, split: ThingStuffSplit) -> Categories | None:
    """Return the classes that a network learnt from ground truth, None where it learnt pseudo-classes.

    Raises:
        UserError: a record that does not fit the split.
    """
    told = checkpoint.hyper_parameters.get("classes")
    if told is None:
        return None
    numbers = (*split.stuffs, *split.things)
    fits = isinstance(told, list) and len(told) == len(numbers) and set(numbers) == set(range(len(told)))
    if not fits or not all(_is_class(row) for row in told):
        raise UserError(
            f"{checkpoint.path}: its classes are no names of its {len(numbers)} outputs; get the "
            "checkpoint again from where it was trained"
        )
    if [number for number, row in enumerate(told) if row["isthing"]] != sorted(split.things):
        raise UserError(
            f"{checkpoint.path}: its classes are things where its outputs are stuff; get the "
            "checkpoint again from where it was trained"
        )
    rows = [(row["name"], row["isthing"], row["color"]) for row in told]
    about = {"uses_ground_truth": True, "source": "learnt from ground truth"}
    return named_categories(split.pseudo_classes, rows, numbers, about)


def _is_class(row: Any) -> bool:
    if not isinstance(row, dict) or row.keys() != {"name", "isthing", "color"}:
        return False
    name, color = row["name"], row["color"]
    bytes_ = isinstance(color, list) and all(type(part) is int and 0 <= part <= 255 for part in color)
    return (
        is_text(name) and 0 < len(name) <= 200 and type(row["isthing"]) is bool and bytes_ and len(color) == 3
    )
