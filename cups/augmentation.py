"""Augmentation of training samples: geometry, copy-paste, colour.

All randomness comes from the generator given; inputs are never changed, results never share what they edit.
Boxes are no part of a sample: they are made from the masks after the last step, so they cannot go stale.
Recipe: CUPS (Hahn et al., CVPR 2025), implementation details; copy-paste after Ghiasi et al. (CVPR 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from cups.ops.precision import full_precision
from cups.ops.resize import nearest_indices, resize_ids, resize_image
from cups.structures import Sample, boxes_from_masks

MIN_AREA = 5
"""Instances of fewer pixels teach nothing but noise (CUPS drops those of at most 4 px)."""


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, device=generator.device))


def _integer(generator: torch.Generator, low: int, high: int) -> int:
    """Draw from low..high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator, device=generator.device))


def _chance(generator: torch.Generator, probability: float) -> bool:
    return _uniform(generator, 0.0, 1.0) < probability


def _areas(masks: Tensor) -> Tensor:
    """Return (N,) int32 pixels of (N, H, W) bool; seven times as fast as the default of 64 bits."""
    return masks.flatten(1).sum(dim=1, dtype=torch.int32)


def _drop_small(sample: Sample, min_area: int) -> Sample:
    areas = _areas(sample.masks)
    return sample if bool((areas >= min_area).all()) else sample.keep(areas >= min_area)


class Window(NamedTuple):
    """A rectangle in whole pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def _random_window(generator: torch.Generator, size: tuple[int, int], height: int, width: int) -> Window:
    """Place a height x width rectangle uniformly inside an image of `size`; it is cut where larger."""
    height, width = min(height, size[0]), min(width, size[1])
    top = _integer(generator, 0, size[0] - height)
    return Window(top, _integer(generator, 0, size[1] - width), height, width)


def flip_and_resized_crop(
    sample: Sample,
    generator: torch.Generator,
    area_scale: tuple[float, float] = (0.7, 1.0),
    flip_probability: float = 0.5,
) -> Sample:
    """Mirror at random, cut a window of the image's own aspect ratio and enlarge it to the sample's size.

    Args:
        sample: image (3, H, W), labels (H, W), masks (N, H, W).
        generator: source of randomness.
        area_scale: range of the window's share of the image area, within 0-1.
        flip_probability: chance of a horizontal mirror image.

    Returns:
        A sample of the same size; image bilinear, labels by one shared grid of nearest pixels. Instances
        that lie outside the window are gone.
    """
    flip = _chance(generator, flip_probability)
    side = sqrt(_uniform(generator, *area_scale))
    height, width = sample.size
    window = _random_window(generator, sample.size, max(1, round(side * height)), max(1, round(side * width)))
    device = sample.sem_seg.device
    rows = window.top + nearest_indices(window.height, height, device)
    columns = window.left + nearest_indices(window.width, width, device)
    image = resize_image(sample.image[(..., *window.slices)], sample.size).clamp(0.0, 1.0)
    if flip:
        image, columns = image.flip(-1), columns.flip(0)
    labels = sample.replace(
        image=image,
        sem_seg=sample.sem_seg[rows][:, columns],
        masks=sample.masks[:, rows][..., columns],
    )
    return _drop_small(labels, 1)


@dataclass(frozen=True)
class _Source:
    """One object cut to its box: views into its frame, read only."""

    image: Tensor
    mask: Tensor
    class_id: Tensor


@dataclass(frozen=True)
class CopyPaste:
    """Pastes objects of the batch (or of other samples) into every image of the batch.

    Attributes:
        max_objects: objects pasted into an image, drawn uniformly from 1..max_objects.
        min_side: only objects whose box is larger than this many pixels on both sides are copied.
        scale_range: factor on the object's size.
        flip_probability: chance that an object is mirrored.
        min_visible: objects of which less than this share stays visible after pasting are dropped.
        min_area: so are objects of fewer visible pixels.
        attempts: tries for one paste when the scaled object vanishes.
    """

    max_objects: int
    min_side: int
    scale_range: tuple[float, float] = (0.25, 1.5)
    flip_probability: float = 0.5
    min_visible: float = 0.1
    min_area: int = MIN_AREA
    attempts: int = 10

    def __post_init__(self) -> None:
        """Refuse settings that cannot be drawn from."""
        low, high = self.scale_range
        if self.max_objects < 1 or not 0 < low <= high:
            raise ValueError(
                f"max_objects {self.max_objects} must be at least 1, scale_range {low, high} positive"
            )

    def __call__(
        self, samples: Sequence[Sample], sources: Sequence[Sample] | None, generator: torch.Generator
    ) -> list[Sample]:
        """Return the batch with pasted objects, one sample for each of `samples`.

        Args:
            samples: targets.
            sources: where objects come from (any sizes); None means `samples` themselves.
            generator: source of randomness.

        Returns:
            New samples: pasted pixels show the object, are 0 ("some thing") in `sem_seg`, and belong to the
            new instance alone. Without an object to copy, the samples as they came.
        """
        pool = self._pool(samples if sources is None else sources)
        if not pool:
            return list(samples)
        return [self._paste_into(sample, pool, generator) for sample in samples]

    def _pool(self, sources: Sequence[Sample]) -> list[_Source]:
        pool = []
        for source in sources:
            # All boxes in one list: a GPU waits once for each of those.
            for index, box in enumerate(boxes_from_masks(source.masks).int().tolist()):
                left, top, right, bottom = box
                if min(right - left, bottom - top) <= self.min_side:
                    continue
                pool.append(
                    _Source(
                        source.image[:, top:bottom, left:right],
                        source.masks[index, top:bottom, left:right],
                        source.classes[index : index + 1],
                    )
                )
        return pool

    def _paste_into(self, sample: Sample, pool: Sequence[_Source], generator: torch.Generator) -> Sample:
        wanted = _integer(generator, 1, self.max_objects)
        placed = [
            paste for _ in range(wanted) if (paste := self._draw(pool, sample.size, generator)) is not None
        ]
        count = len(sample.masks)
        image, sem_seg = sample.image.clone(), sample.sem_seg.clone()
        masks = sample.masks.new_zeros((count + len(placed), *sample.size))
        masks[:count] = sample.masks
        for number, (source, window) in enumerate(placed, start=count):
            rows, columns = window.slices
            image[:, rows, columns] = torch.where(source.mask, source.image, image[:, rows, columns])
            sem_seg[rows, columns].masked_fill_(source.mask, 0)
            masks[:number, rows, columns] &= ~source.mask
            masks[number, rows, columns] = source.mask
        classes = torch.cat((sample.classes, *(source.class_id for source, _ in placed)))
        whole = [_areas(sample.masks), *(source.mask.sum()[None] for source, _ in placed)]
        visible = _areas(masks)
        enough = (visible >= self.min_visible * torch.cat(whole)) & (visible >= self.min_area)
        pasted = sample.replace(image=image, sem_seg=sem_seg, masks=masks, classes=classes)
        return pasted.keep(enough)

    def _draw(
        self, pool: Sequence[_Source], size: tuple[int, int], generator: torch.Generator
    ) -> tuple[_Source, Window] | None:
        """Return a scaled, perhaps mirrored object and its place, or None when every attempt vanished."""
        for _ in range(self.attempts):
            source = pool[_integer(generator, 0, len(pool) - 1)]
            scale = _uniform(generator, *self.scale_range)
            height, width = (max(1, round(scale * side)) for side in source.mask.shape)
            image = resize_image(source.image, (height, width), antialias=True).clamp(0.0, 1.0)
            mask = resize_ids(source.mask, (height, width))
            if _chance(generator, self.flip_probability):
                image, mask = image.flip(-1), mask.flip(-1)
            # An object larger than the image is cut to a random part of itself.
            part = _random_window(generator, (height, width), *size).slices
            image, mask = image[(..., *part)], mask[part]
            window = _random_window(generator, size, *mask.shape)
            if int(mask.sum()) >= self.min_area:
                return _Source(image, mask, source.class_id), window
        return None


@dataclass(frozen=True)
class Photometric:
    """Blur, colour jitter and greyscale; labels stay as they are.

    Attributes:
        blur_probability: chance of a Gaussian blur. CUPS blurs every training image, so that the network
            never meets one as sharp as those it is evaluated on.
        kernel: side of the blur kernel, pixels, odd.
        sigma: range of its standard deviation, pixels.
        jitter_probability: chance of a colour jitter.
        brightness, contrast, saturation: factors are drawn from 1 +- this.
        hue: shift is drawn from +- this, in turns of the colour circle.
        grayscale_probability: chance of losing all colour.
    """

    blur_probability: float
    kernel: int = 7
    sigma: tuple[float, float] = (0.1, 2.0)
    jitter_probability: float = 0.5
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grayscale_probability: float = 0.2

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """Return the sample with a changed image, values in 0-1."""
        # Blur is a convolution: autocast would leave 8 bits of each colour.
        with full_precision(sample.image.device):
            return sample.replace(image=self._change(sample.image, generator).clamp(0.0, 1.0))

    def _change(self, image: Tensor, generator: torch.Generator) -> Tensor:
        if _chance(generator, self.blur_probability):
            image = TF.gaussian_blur(image, [self.kernel] * 2, [_uniform(generator, *self.sigma)] * 2)
        if _chance(generator, self.jitter_probability):
            image = self._jitter(image, generator)
        if _chance(generator, self.grayscale_probability):
            image = TF.rgb_to_grayscale(image, num_output_channels=3)
        return image

    def _jitter(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Apply the four colour changes in random order, as they do not commute."""
        changes = (
            (TF.adjust_brightness, 1.0, self.brightness),
            (TF.adjust_contrast, 1.0, self.contrast),
            (TF.adjust_saturation, 1.0, self.saturation),
            (TF.adjust_hue, 0.0, self.hue),
        )
        order = torch.randperm(len(changes), generator=generator, device=generator.device)
        for index in order.tolist():
            change, neutral, spread = changes[index]
            image = change(image, _uniform(generator, neutral - spread, neutral + spread))
        return image


@dataclass(frozen=True)
class ResolutionJitter:
    """Resizes a batch to one size drawn from `resolutions`, (H, W) in pixels."""

    resolutions: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Refuse an empty choice."""
        if not self.resolutions:
            raise ValueError("resolutions is empty; give at least one (H, W), or leave the jitter out")

    def __call__(self, samples: Sequence[Sample], generator: torch.Generator) -> list[Sample]:
        """Return the batch at the size drawn; instances of fewer than `MIN_AREA` pixels are dropped."""
        size = self.resolutions[_integer(generator, 0, len(self.resolutions) - 1)]
        return [_drop_small(resize_sample(sample, size), MIN_AREA) for sample in samples]


def resize_sample(sample: Sample, size: tuple[int, int]) -> Sample:
    """Resize a sample to `size` (H, W): image bilinear, labels and masks by the nearest pixel centre."""
    return sample.replace(
        image=resize_image(sample.image, size),
        sem_seg=resize_ids(sample.sem_seg, size),
        masks=resize_ids(sample.masks, size),
    )


@dataclass(frozen=True)
class RandomCrop:
    """Cuts a window of one random size, of the image's own shape, from every sample of a batch.

    Attributes:
        heights: lowest and highest window height as a share of the image's. CUPS crops 512-1024 rows of
            1024 in self-training.
    """

    heights: tuple[float, float]

    def __post_init__(self) -> None:
        """Refuse heights that cannot be cut."""
        low, high = self.heights
        if not 0 < low <= high <= 1:
            raise ValueError(f"heights {low, high} must be rising shares of the image height within 0-1")

    def __call__(
        self, samples: Sequence[Sample], generator: torch.Generator, shared: torch.Generator | None = None
    ) -> list[Sample]:
        """Return the crops, each at its own place; instances of fewer than `MIN_AREA` pixels are dropped.

        The size is drawn from `shared`, if it is given.
        """
        share = _uniform(shared or generator, *self.heights)
        cropped = []
        for sample in samples:
            height, width = (max(1, round(share * side)) for side in sample.size)
            part = (..., *_random_window(generator, sample.size, height, width).slices)
            sample = sample.replace(
                image=sample.image[part].clone(),
                sem_seg=sample.sem_seg[part].clone(),
                masks=sample.masks[part].clone(),
            )
            cropped.append(_drop_small(sample, MIN_AREA))
        return cropped


@dataclass(frozen=True)
class BatchAugmentation:
    """What happens to a batch on the training device, in this order; None leaves a step out."""

    copy_paste: CopyPaste | None = None
    random_crop: RandomCrop | None = None
    resolution_jitter: ResolutionJitter | None = None
    photometric: Photometric | None = None

    def __call__(
        self,
        samples: Sequence[Sample],
        sources: Sequence[Sample],
        generator: torch.Generator,
        shared: torch.Generator | None = None,
    ) -> list[Sample]:
        """Return the augmented batch; objects to paste come from `sources`.

        Sizes are drawn from `shared`, if it is given: seeded alike for all batches of an optimisation step,
        it gives them images of one size, and no process waits for another with larger ones.
        """
        batch = list(samples)
        if self.copy_paste is not None:
            batch = self.copy_paste(batch, sources, generator)
        if self.random_crop is not None:
            batch = self.random_crop(batch, generator, shared)
        if self.resolution_jitter is not None:
            batch = self.resolution_jitter(batch, shared or generator)
        if self.photometric is not None:
            batch = [self.photometric(sample, generator) for sample in batch]
        return batch
