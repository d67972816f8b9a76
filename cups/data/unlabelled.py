"""Images alone, for self-training: no pseudo-label and no ground truth is opened."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from copy import copy
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from cups import defaults
from cups.data.fit import Fit, choose_fit, draw_generator, typical_size
from cups.data.frame_check import check_frames
from cups.data.utils import image_tensor
from cups.errors import UserError
from cups.io.images import (
    but_ignored,
    frame_names,
    frame_stem,
    is_image_source,
    list_city_images,
    report_images,
    scan_images,
)
from cups.io.png import read_image
from cups.ops.resize import resize_image
from cups.ops.spread import spread_places
from cups.structures import Draw, LoadedImage

log = logging.getLogger(__name__)


def training_images(root: Path, folder: str) -> list[tuple[str, Path]]:
    """Return name and file of the training images: `{folder}/train/*/*`, or all of a plain folder or video.

    Names are stems in the Cityscapes layout, else those of `cups.io.images.frame_names`.

    Raises:
        UserError: missing folder, or one without images.
    """
    if not is_image_source(root):
        raise UserError(f"{root}: no such folder; give the data root with `data_root`")
    train, ignored = root / folder / "train", Counter[str]()
    if train.is_dir():
        files = list_city_images(train)
        names = [frame_stem(path) for path in files]
    else:
        others = sorted(path.name for path in root.glob("leftImg8bit*") if (path / "train").is_dir())
        if others:
            raise UserError(f"{train}: no such folder; set SELF_TRAINING.IMAGES to {' or '.join(others)}")
        listing = scan_images(root)
        files, ignored = listing.images, listing.ignored
        names = frame_names(root, files)
    place = train if train.is_dir() else root
    if not files:
        raise UserError(f"{place}: holds no image{but_ignored(ignored)}; check `data_root`")
    log.info("%s: %s", place, report_images(files, ignored))
    return list(zip(names, files, strict=True))


def held_out_indices(length: int, count: int) -> list[int]:
    """Return about `count` places evenly spread over a list, at most a quarter of it; few are not split."""
    return spread_places(length, min(count, length // 4))


class FittedImages(Dataset[LoadedImage]):
    """Images alone, brought to the size of the training frames.

    Args:
        files: name -> image file.
        fit: the geometry.
        seed: of the places at which large images are cut; drawn for `Draw` indices, else the centre.
    """

    def __init__(self, files: Mapping[str, Path], fit: Fit, seed: int = 0) -> None:
        self.names, self.files = list(files), list(files.values())
        self.fit, self.seed = fit, seed

    def __len__(self) -> int:
        return len(self.files)

    @property
    def images(self) -> list[tuple[str, Path]]:
        """Name and file of each image."""
        return list(zip(self.names, self.files, strict=True))

    def __getitem__(self, draw: int | Draw) -> LoadedImage:
        index = draw.frame if isinstance(draw, Draw) else draw
        generator = draw_generator(self.seed, draw.number) if isinstance(draw, Draw) else None
        image: Tensor = image_tensor(read_image(self.files[index]))
        size = self.fit.size((image.shape[-2], image.shape[-1]))
        corner = self.fit.corner(size, generator)
        image = self.fit.cut(resize_image(image, size, self.fit.antialias), corner, 0.0)
        return LoadedImage(image, self.names[index], index=index)


class UnlabelledImages(FittedImages):
    """Training images, scaled and cropped as those of Stage 2, without any label.

    Args:
        root: data root with `{folder}/train/{city}/`, or a plain folder of images.
        folder: `leftImg8bit` or `leftImg8bit_sequence` (every frame of the clips, 30 times as many).
        scale, crop, fit: how images are brought to one size, see `cups.data.fit.choose_fit`.

    Raises:
        UserError: missing folder, no image, or a damaged one.
    """

    def __init__(
        self,
        root: Path | str,
        folder: str,
        scale: float,
        crop: tuple[int, int],
        max_images: int | None = None,
        fit: defaults.Fitting = defaults.FIT,
        seed: int = 0,
    ) -> None:
        named = training_images(Path(root), folder)[:max_images]
        check_frames([path for _, path in named])
        self.typical_size = typical_size([path for _, path in named])
        super().__init__(dict(named), choose_fit(self.typical_size, scale, crop, fit), seed)

    def hold_out(self, count: int) -> tuple[UnlabelledImages, UnlabelledImages]:
        """Split off about `count` images, evenly spread over the sorted list and at most a quarter of it.

        Returns:
            (the rest, the images held out). A list of fewer than four images is not split: both hold all.
        """
        held = held_out_indices(len(self), count)
        if not held:
            return self, self
        return self._part(set(range(len(self))) - set(held)), self._part(held)

    def _part(self, indices: Iterable[int]) -> UnlabelledImages:
        part = copy(self)
        chosen = sorted(indices)
        part.files = [self.files[index] for index in chosen]
        part.names = [self.names[index] for index in chosen]
        return part
