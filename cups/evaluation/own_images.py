"""Predictions on images without labels: maps, their JSON, pictures and videos; a killed run goes on."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cups.categories import Categories
from cups.errors import UserError
from cups.evaluation.overlays import draw_prediction
from cups.evaluation.panoptic_export import PanopticExport
from cups.evaluation.tracked import Work, work_left
from cups.io.coco_panoptic import SEGMENT_FACTOR
from cups.io.files import is_complete_png
from cups.io.fingerprint import digest_of
from cups.io.locking import one_writer
from cups.io.png import read_image, write_png
from cups.io.video import frame_rate, is_frame
from cups.io.video_writer import write_video
from cups.network import PanopticNetwork

log = logging.getLogger(__name__)
OVERLAY_WIDTHS = (800, 1600)
"""Least and greatest width of a picture: it is for people, the maps have the size of their images."""
AHEAD = 2
"""Images that are read in advance."""
Image = tuple[str, Path]
Loaded = tuple[str, Path, np.ndarray]


@dataclass(frozen=True)
class OwnImages:
    """Images without labels and the folder of their predictions.

    Attributes:
        images: name and file of each; the file may be a frame of a video.
        folder: of the results: `{kind}/{name}.png`, `{kind}.json`, `overlays/`.
        kind: how the maps are called.
        overlays: whether pictures are written, and a video of each video.
        skip_bad: whether images that cannot be read are left out; else they stop the run.
        overwrite: whether what the folder holds is predicted again.
        setting: what names the folder, for errors.
        tracking: whether the objects of a clip keep their numbers from frame to frame.
        votes: whether the frames of a clip vote on the category of each object, see `ClipTracker`.
    """

    images: Sequence[Image]
    folder: Path
    kind: str = "panoptic"
    overlays: bool = True
    skip_bad: bool = False
    overwrite: bool = False
    setting: str = "output_dir"
    tracking: bool = True
    votes: bool = False


def predict_own_images(network: PanopticNetwork, own: OwnImages, settings: Mapping[str, Any]) -> Path:
    """Predict what is missing, then describe and draw all of it; return the JSON.

    Args:
        settings: all that changes a prediction; results of others are not mixed in.

    Raises:
        UserError: an image that cannot be read, none that can, predictions of other settings, or a process
            that writes such at this moment.
    """
    claim = {**settings, "working_size": network.working_size, **_names_of(network.categories)}
    if not own.tracking:
        claim["tracking"] = False
    if own.votes:
        claim["votes"] = True
    with one_writer(own.folder, f"use another `{own.setting}`", digest_of(claim)):
        return _predict_alone(network, own, claim)


def _predict_alone(network: PanopticNetwork, own: OwnImages, claim: Mapping[str, Any]) -> Path:
    export = PanopticExport(own.folder, own.images, network.split.pseudo_classes, own.kind, own.setting)
    if own.overwrite:
        export.clear()
    export.claim(claim)
    work = work_left(export, len(network.categories.names), own.tracking, own.votes)
    log.info("%d of %d images to predict", len(work.images), len(own.images))
    bad = _predict(network, own, export, work) | work.left_out
    good = [image for image in own.images if image[0] not in bad]
    if not good:
        raise UserError(f"{own.folder}: none of {len(own.images)} images can be read; check `input`")
    export = replace(export, images=good)
    result = export.describe(network.categories.to_coco())
    if own.overlays:
        _draw_missing(own, export, network.categories)
        _write_videos(own, export, network.categories)
    log.info("%d images%s: %s", len(good), f" ({len(bad)} left out)" if bad else "", result)
    return result


def _names_of(categories: Categories) -> dict[str, Any]:
    return {"names": list(categories.names), "category of pseudo-class": categories.table.tolist()}


def _predict(network: PanopticNetwork, own: OwnImages, export: PanopticExport, work: Work) -> set[str]:
    """Write map and picture of each image; return the names of those that cannot be read."""
    bad: set[str] = set()
    with tqdm(total=len(work.images), desc="predict", unit="img", disable=not work.images) as progress:

        def refuse(name: str, error: UserError) -> None:
            if not own.skip_bad:
                raise error
            log.warning("left out: %s", error)
            bad.add(name)
            work.skip(name)
            progress.update()

        for batch in _batches(network, _read(work.images, refuse)):
            predictions = network.predict_batch([pixels for _, _, pixels in batch])
            for (name, path, pixels), alone in zip(batch, predictions, strict=True):
                prediction = work.numbered(name, alone)
                write_png(export.png(name), prediction.to_coco()[0])
                if own.overlays and not is_frame(path):
                    _write_picture(own, name, pixels, prediction.ids, network.categories)
            work.save([name for name, _, _ in batch])
            progress.update(len(batch))
    return bad


def _read(images: Sequence[Image], refuse: Callable[[str, UserError], None]) -> Iterator[Loaded]:
    """Yield the images, each read while the one before is predicted."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = deque((image, reader.submit(read_image, image[1])) for image in images[:AHEAD])
        for position in range(len(images)):
            (name, path), future = coming.popleft()
            if position + AHEAD < len(images):
                later = images[position + AHEAD]
                coming.append((later, reader.submit(read_image, later[1])))
            try:
                yield name, path, future.result()
            except UserError as error:
                refuse(name, error)


def _batches(network: PanopticNetwork, loaded: Iterable[Loaded]) -> Iterator[list[Loaded]]:
    """Yield images of one size together, as many as fit into a forward pass."""
    batch: list[Loaded] = []
    for item in loaded:
        shape = item[2].shape
        if batch and (
            batch[0][2].shape != shape or len(batch) >= network.inference.batch_size((shape[0], shape[1]))
        ):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _picture(own: OwnImages, name: str) -> Path:
    return own.folder / "overlays" / f"{name}.png"


def _drawn(
    pixels: np.ndarray, ids: np.ndarray, categories: Categories, legend: bool | Sequence[int] = True
) -> np.ndarray:
    # Small images are enlarged, or the numbers in them could not be read.
    width = int(np.clip(pixels.shape[1], *OVERLAY_WIDTHS))
    return draw_prediction(pixels, ids, categories, width, legend)


def _write_picture(
    own: OwnImages, name: str, pixels: np.ndarray, ids: np.ndarray, categories: Categories
) -> None:
    write_png(_picture(own, name), _drawn(pixels, ids, categories))


def _draw_missing(own: OwnImages, export: PanopticExport, categories: Categories) -> None:
    """Draw the pictures that an earlier run did not write, or wrote before the map."""
    for name, path in export.images:
        picture = _picture(own, name)
        if is_frame(path) or (_is_newer(picture, [export.png(name)]) and is_complete_png(picture)):
            continue
        _write_picture(own, name, read_image(path), export.segments(name), categories)


def _write_videos(own: OwnImages, export: PanopticExport, categories: Categories) -> None:
    """Write `overlays/{clip}.mp4` of each video, at its own rate; all its frames have one legend."""
    clips: dict[Path, list[Image]] = {}
    for name, path in export.images:
        if is_frame(path):
            clips.setdefault(path.parent, []).append((name, path))
    for video, frames in clips.items():
        target = own.folder / "overlays" / f"{Path(frames[0][0]).parent.as_posix()}.mp4"
        if not _is_newer(target, [export.png(name) for name, _ in frames]):
            shown = tqdm(_drawn_frames(frames, export, categories), video.name, len(frames), unit="frame")
            write_video(target, shown, frame_rate(video))


def _drawn_frames(
    frames: Sequence[Image], export: PanopticExport, categories: Categories
) -> Iterator[np.ndarray]:
    used = {int(i) for name, _ in frames for i in np.unique(export.segments(name)) // SEGMENT_FACTOR if i}
    legend = sorted((index - 1 for index in used), key=lambda c: (categories.is_thing[c], c))
    for name, path in frames:
        yield _drawn(read_image(path), export.segments(name), categories, legend)


def _is_newer(path: Path, sources: Iterable[Path]) -> bool:
    """Return whether a file is there and was written after all of its sources."""
    return path.is_file() and path.stat().st_mtime_ns >= max(file.stat().st_mtime_ns for file in sources)
