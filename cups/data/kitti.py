"""KITTI panoptic (Mohan and Valada, "EfficientPS", IJCV 2021): validation frames with ground truth.

Layout, as its archive unpacks:

    {root}/validation/images/{name}.png
    {root}/validation/annotations/{name}.png                 RGB, id = R + 256 G + 65536 B
    {root}/validation/cityscapes_instance_format/{name}.png  the same ids as 16-bit grey (CUPS converts to it)

and `training/` likewise; one of the two label folders is enough. The ids are those of Cityscapes'
instanceIds: `label id * 1000 + number` for objects, the bare label id for stuff and groups.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cups.data.cityscapes import CityscapesPanopticValidation, GroundTruthFrame, panoptic_target
from cups.data.id_schemes import FIRST_NUMBERED_ID, check_numbering
from cups.errors import UserError
from cups.io.coco_panoptic import from_rgb
from cups.io.png import read_ids, read_image
from cups.ops.panoptic_map import PanopticMap

GREY_FOLDER, RGB_FOLDER = "cityscapes_instance_format", "annotations"
SPLITS = {"val": "validation", "train": "training"}


def list_kitti_frames(root: Path, split: str) -> list[GroundTruthFrame]:
    """Return the frames of a split ("val" or "train"), sorted by name; each has one label file.

    Raises:
        UserError: missing folder, no images, or an image without its labels.
    """
    folder = root / SPLITS.get(split, split)
    images = sorted((folder / "images").glob("*.png"))
    if not images:
        raise UserError(f"{folder / 'images'}: holds no .png; give the KITTI panoptic root with `data_root`")
    labels = next((folder / name for name in (GREY_FOLDER, RGB_FOLDER) if (folder / name).is_dir()), None)
    if labels is None:
        raise UserError(f"{folder}: holds neither {GREY_FOLDER}/ nor {RGB_FOLDER}/; unpack the labels there")
    for image in images:
        if not (labels / image.name).is_file():
            raise UserError(f"{labels / image.name}: no such file; unpack the labels again")
    return [GroundTruthFrame(image.stem, image, labels / image.name, labels / image.name) for image in images]


def read_kitti_ids(path: Path) -> np.ndarray:
    """Read a label file of either folder: (H, W) integer instance ids in Cityscapes' numbering."""
    return from_rgb(read_image(path)) if path.parent.name == RGB_FOLDER else read_ids(path)


class KittiPanopticValidation(CityscapesPanopticValidation):
    """KITTI frames; arguments and items as of `CityscapesPanopticValidation`.

    Frames differ by a few pixels in size: CUPS crops or pads to (368, 1240).
    """

    @staticmethod
    def has_ground_truth(root: Path, split: str) -> bool:
        """Return whether a data root holds ground truth of a split at all."""
        folder = root / SPLITS.get(split, split)
        return any((folder / name).is_dir() for name in (GREY_FOLDER, RGB_FOLDER))

    def list_frames(self, root: Path, split: str) -> list[GroundTruthFrame]:
        """Return the frames of a split."""
        return list_kitti_frames(root, split)

    def read_target(self, frame: GroundTruthFrame) -> PanopticMap:
        """Read the ground truth of a frame.

        Raises:
            UserError: unreadable file, or ids that are not Cityscapes'.
        """
        return panoptic_target(*self._read(frame), self.classes)

    def check(self) -> None:
        """Refuse ground truth that cannot be scored; see `cups.data.id_schemes`."""
        files = [(frame.label_ids, frame.instance_ids) for frame in self.frames]
        check_numbering(files, lambda index: self._read(self.frames[index]), self.classes)

    def _read(self, frame: GroundTruthFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return label ids and instance ids of a frame, both (H, W) int64."""
        instances = read_kitti_ids(frame.instance_ids).astype(np.int64)
        labels = np.where(instances >= FIRST_NUMBERED_ID, instances // FIRST_NUMBERED_ID, instances)
        if labels.max(initial=0) >= len(self.classes.from_id):
            raise UserError(
                f"{frame.instance_ids}: holds id {instances.max()}, beyond Cityscapes' instanceIds; "
                "unpack or convert the labels again"
            )
        return labels, instances
