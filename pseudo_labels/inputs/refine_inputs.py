"""Inputs of the refinement networks: depth and image to look at, labels to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cups.io.png import read_image
from cups.ops.depth_edges import resize_depth
from cups.ops.resize import resize_ids, resize_image
from cups.taxonomy import void_value
from pseudo_labels.inputs.labels import check_aspect, read_depth, read_semantic
from pseudo_labels.steps.frames import Folder, Frame


@dataclass(frozen=True)
class RefineFolders:
    """Where the inputs of a refinement network lie, and the number of image rows at which it works.

    The semantics are what it learns from. It does not look at them.
    """

    depth: Folder
    semantics: Folder
    height: int

    @classmethod
    def of(cls, root: Path, height: int, *, depth_subdir: str, semantic_subdir: str) -> RefineFolders:
        """Return the folders of these names under `root`."""
        return cls(Folder(root, depth_subdir, ".npy"), Folder(root, semantic_subdir, ".png"), height)

    def require_depth(self, frames: Sequence[Frame]) -> None:
        """Raise a `UserError` that names the first missing file and the step that writes it."""
        self.depth.require(frames, "run generate_depth_spidepth.py first, or check `depth_subdir`")

    def require_labels(self, frames: Sequence[Frame]) -> None:
        """Raise a `UserError` that names the first missing file and the step that writes it."""
        self.semantics.require(frames, "generate the semantics first, or check `semantic_subdir`")

    def view(self, frame: Frame) -> RefineView:
        """Read what the network sees of one frame besides its features.

        Raises:
            UserError: unreadable files, shapes that do not fit together.
        """
        image = torch.from_numpy(read_image(frame.image)).permute(2, 0, 1).float() / 255
        full = (image.shape[1], image.shape[2])
        depth = read_depth(self.depth.path(frame))
        check_aspect(self.depth.path(frame), depth.shape, full)
        size = working_size(full, self.height)
        # A network's map is small and meant to be interpolated; larger ones are thinned out.
        depth = resize_depth(depth, size, sharp=depth.shape[0] >= size[0])
        log_depth = torch.from_numpy(np.log(depth))
        return RefineView(
            (log_depth - log_depth.median())[None],
            resize_image(image, size, antialias=True),
            full,
        )

    def labels(self, frame: Frame, view: RefineView, num_classes: int) -> tuple[Tensor, tuple[int, int]]:
        """Read the labels of one frame: (H, W) int64 at the size of the view, -1 = void; and their own size.

        Raises:
            UserError: an unreadable file, another shape than the image's, classes beyond `num_classes`.
        """
        path = self.semantics.path(frame)
        semantic = read_semantic(path, num_classes)
        check_aspect(path, semantic.shape, view.image_size)
        labels = torch.from_numpy(semantic.astype(np.int64))
        labels[labels == void_value(num_classes)] = -1
        return resize_ids(labels, view.size), (semantic.shape[0], semantic.shape[1])


@dataclass(frozen=True, eq=False)
class RefineView:
    """What a refinement network sees of one frame besides its features.

    Attributes:
        log_depth: (1, H, W) float32, median 0.
        image: (3, H, W) float32 in 0-1.
        image_size: (H, W) of the image on disk.
    """

    log_depth: Tensor
    image: Tensor
    image_size: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) at which the network works."""
        return self.image.shape[1], self.image.shape[2]


def working_size(size: tuple[int, int], height: int) -> tuple[int, int]:
    """Return (H, W) of an image of `size` brought down to `height` rows; smaller ones stay."""
    if size[0] <= height:
        return size
    return height, max(1, round(size[1] * height / size[0]))
