"""From settings or a configuration to predictions on one's own images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from yacs.config import CfgNode

from cups.builders.inference import as_evaluated, prediction_settings
from cups.builders.run_directory import run_directory
from cups.data import ImageFolder
from cups.errors import UserError
from cups.evaluation.own_images import Image, OwnImages, predict_own_images
from cups.io.files import file_sha256
from cups.io.images import refuse_output_inside
from cups.io.model_folder import weights_file
from cups.io.video import is_video
from cups.model import MergeChoices
from cups.network import PanopticNetwork, load
from cups.prediction_settings import PredictionSettings


def predict_images(settings: PredictionSettings) -> Path:
    """Predict on folders, images and videos; return the JSON that describes the predictions.

    Raises:
        UserError: no image, one that cannot be read, no such checkpoint, or an output folder in use.
    """
    images = images_of(settings.input)[: settings.max_images]
    for source in settings.input:
        refuse_output_inside(settings.output, source, "output")
    network = load(
        settings.checkpoint,
        device_of(settings.device),
        settings.confidence,
        prefer_teacher=settings.use_teacher,
        names=settings.names,
        working_size=settings.working_size,
        snap_to_regions=settings.snap_to_regions,
        semantic_weight=settings.semantic_weight,
    )
    own = OwnImages(
        images,
        settings.output,
        overlays=settings.overlays,
        skip_bad=settings.skip_bad,
        overwrite=settings.overwrite,
        setting="output",
        tracking=settings.tracking,
        votes=settings.votes,
    )
    decisive = {
        "checkpoint sha256": file_sha256(weights_file(settings.checkpoint)),
        "confidence": settings.confidence,
        "use_teacher": settings.use_teacher,
        "input": [str(path.resolve()) for path in settings.input],
        **MergeChoices(settings.snap_to_regions, settings.semantic_weight).chosen,
    }
    return predict_own_images(network, own, decisive)


def predict_folder(
    config: CfgNode,
    images: Path,
    output: Path | None = None,
    kind: str = "panoptic",
    overlays: bool = True,
    tracking: bool = True,
) -> Path:
    """Predict on one folder or video as a configuration says, TTA and dense CRF included; return the JSON.

    Args:
        output: folder of the predictions; None is the folder that the configuration names.
        kind: how maps and JSON are called.
        overlays, tracking: see `OwnImages`.
    """
    output = output or run_directory(config, "val")
    found = images_of([images])
    refuse_output_inside(output, images, "output_dir")
    own = OwnImages(found, output, kind, overlays, tracking=tracking)
    return predict_own_images(configured_network(config), own, prediction_settings(config, images))


def configured_network(config: CfgNode) -> PanopticNetwork:
    """Open `MODEL.CHECKPOINT` for images of any size, wrapped as the configuration says.

    Raises:
        UserError: no checkpoint given, or one that cannot be read.
    """
    keys = config.MODEL
    if keys.CHECKPOINT is None:
        raise UserError("MODEL.CHECKPOINT is not set; give a checkpoint with `checkpoint`")
    device = device_of("cpu" if config.SYSTEM.ACCELERATOR == "cpu" else "auto")
    network = load(
        keys.CHECKPOINT,
        device,
        keys.INFERENCE_CONFIDENCE_THRESHOLD,
        prefer_teacher=keys.USE_TEACHER,
        model_config=keys.CONFIG,
    )
    model = as_evaluated(network.model, config)
    return PanopticNetwork(model, network.split, network.categories, network.working_size)


def device_of(name: str) -> torch.device:
    """Return a device by name; "auto" is a GPU if there is one.

    Raises:
        UserError: no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise UserError(f"`device` {name}: no such device here; give auto, cpu or cuda") from None
    return device


def images_of(inputs: Sequence[Path]) -> list[Image]:
    """Return name and file of all images in folders, videos and single files; no two have one name.

    Names in a single folder are relative to it. Of several inputs, a folder's names begin with its own.

    Raises:
        UserError: an input without images.
    """
    found: list[Image] = []
    for path in inputs:
        images = ImageFolder(path).images
        prefix = path.resolve().name if path.is_dir() and len(inputs) > 1 else ""
        prefix = path.stem if is_video(path) else prefix
        found += [((Path(prefix) / name).as_posix(), file) for name, file in images]
    return _told_apart(found)


def _told_apart(images: Sequence[Image]) -> list[Image]:
    """Return the images, the second of a name as `name_2`, and so on; a file given twice counts once."""
    taken: dict[str, Path] = {}
    files: set[Path] = set()
    for name, file in images:
        real = file.absolute()
        if real in files:
            continue
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name}_{number}", number + 1
        taken[unique] = file
        files.add(real)
    return list(taken.items())
