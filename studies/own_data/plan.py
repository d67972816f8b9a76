"""What a run on own images will use: found on this machine, each choice said in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cups.backbones import find_weights
from cups.backbones.names import DEFAULT_DINOV2, TEXTON
from cups.errors import UserError
from cups.io.images import list_images
from cups.io.pixels import exif_number, image_size
from cups.io.video import frame_rate, is_frame
from cups.io.weights import how_to_get, stored_at, weight_files
from pseudo_labels.networks.depth_network import DEPTH, ENCODER
from pseudo_labels.networks.devices import pick_device
from pseudo_labels.steps.folders import DEFAULT_K
from pseudo_labels.steps.stage1 import ROOT
from studies.own_data.settings import AUTO, OwnDataSettings
from studies.toy_settings import CLUSTERS

ASSUMED_FOCAL = 0.8
"""Image widths: a phone's main camera (26 mm on film of 36 mm is 0.72) to a dash-cam's (about 1)."""
FRAMES_PER_SECOND = 10
FILM = (36.0, 24.0)
"""Millimetres: the frame that "35 mm equivalent" focal lengths refer to."""
CONFIGS = {
    "small": ROOT / "configs" / "own_data_small.yaml",
    "full": ROOT / "configs" / "own_data.yaml",
}


@dataclass(frozen=True)
class Plan:
    """What a run will use.

    Attributes:
        images: files, in order; a frame of a video has a path inside it.
        size: (H, W) of the middle one.
        video: whether any is a frame of a video.
        every: of a video, each so manieth frame is taken.
        backbone, k: of Stage 1.
        depth: "published", "video", "none", or a folder.
        focal: in image widths, where depth is learnt from video.
        size_name: "small" or "full".
        notes: what was decided and why, one sentence each.
    """

    images: tuple[Path, ...]
    size: tuple[int, int]
    video: bool
    every: int
    backbone: str
    k: int
    depth: str
    focal: float | None
    size_name: str
    notes: tuple[str, ...]

    @property
    def config(self) -> Path:
        """The configuration of both trainings."""
        return CONFIGS[self.size_name]


def plan_of(settings: OwnDataSettings) -> Plan:
    """Look at images, weights and machine, and decide.

    Raises:
        UserError: no images, or something is asked for that is not here.
    """
    images = list_images(settings.input)
    if not images:
        raise UserError(f"{settings.input}: holds no image and no video; check `input`")
    videos = list(dict.fromkeys(path.parent for path in images if is_frame(path)))
    notes: list[str] = []
    every = _every(settings, videos, notes)
    size_name = _size(settings, notes)
    backbone = _backbone(settings, notes)
    depth = _depth(settings, bool(videos), notes)
    focal = _focal(settings, images[0], notes) if depth == "video" else None
    k = settings.k or (CLUSTERS if backbone == TEXTON else DEFAULT_K)
    size = image_size(images[len(images) // 2])
    return Plan(tuple(images), size, bool(videos), every, backbone, k, depth, focal, size_name, tuple(notes))


def _every(settings: OwnDataSettings, videos: Sequence[Path], notes: list[str]) -> int:
    if not videos:
        return 1
    if settings.every is not None:
        return settings.every
    rate = frame_rate(videos[0])
    every = max(1, round(rate / FRAMES_PER_SECOND))
    notes.append(f"Of the video ({rate:.3g} frames a second) each {every}th frame is taken (`every`).")
    return every


def _size(settings: OwnDataSettings, notes: list[str]) -> str:
    if settings.size != AUTO:
        return settings.size
    if pick_device().type == "cuda":
        return "full"
    notes.append(
        "No GPU here, so networks are small and trainings short (`size` small): it shows the way. For "
        "results use a machine with a GPU."
    )
    return "small"


def _backbone(settings: OwnDataSettings, notes: list[str]) -> str:
    if settings.backbone != AUTO:
        return settings.backbone
    try:
        find_weights(DEFAULT_DINOV2, None)
    except UserError:
        notes.append(
            "No DINOv2 weights here, so features are textons: colours and filters, which need no weights. "
            "Labels of photographs are far better with DINOv2: "
            f"bash scripts/download_checkpoints.sh --only {DEFAULT_DINOV2}"
        )
        return TEXTON
    return DEFAULT_DINOV2


def published_depth() -> Path | None:
    """Return the folder of the published depth network, None where its files are not here."""
    files = weight_files("spidepth_cityscapes")
    folder = files[0].path.parent
    return folder if all(stored_at(folder / name).is_file() for name in (ENCODER, DEPTH)) else None


def _depth(settings: OwnDataSettings, video: bool, notes: list[str]) -> str:
    if settings.depth != AUTO:
        known = settings.depth in ("published", "video", "none")
        if not known and not Path(settings.depth).is_dir():
            raise UserError(f"`depth` {settings.depth}: no such folder; give published, video or none")
        if settings.depth == "published" and published_depth() is None:
            raise UserError(
                f"`depth` published: its weights are not here; {how_to_get('spidepth_cityscapes')}"
            )
        return settings.depth
    if published_depth() is not None:
        return "published"
    if video:
        notes.append("No published depth network here: one learns depth from your video first.")
        return "video"
    notes.append(
        "No depth: its published weights are not here, and photos do not move. Things are told by where "
        "regions lie in the image, and touching objects stay one. Better: a video, or weights "
        "(bash scripts/download_checkpoints.sh --list)."
    )
    return "none"


def _focal(settings: OwnDataSettings, image: Path, notes: list[str]) -> float:
    if settings.focal is not None:
        return settings.focal
    told = None if is_frame(image) else exif_focal(image)
    if told is not None:
        notes.append(f"Focal length {told:.2f} image widths, from the photo's EXIF (`focal`).")
        return told
    notes.append(
        f"Focal length unknown: {ASSUMED_FOCAL} image widths are assumed (`focal`). Depth then has another "
        "scale and slightly bent streets; outlines stay."
    )
    return ASSUMED_FOCAL


def exif_focal(image: Path) -> float | None:
    """Return the focal length that EXIF tells, in widths of the upright image; None if it is silent."""
    millimetres = exif_number(image, 0xA405)  # FocalLengthIn35mmFilm
    height, width = image_size(image)
    if not millimetres:
        return None
    return millimetres / (FILM[0] if width >= height else FILM[1])
