"""How a network is asked, as the configuration says: without what scores its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from cups.config_keys import get
from cups.io.files import file_sha256
from cups.io.model_folder import weights_file
from cups.model import MergeChoices
from cups.model.crf import DenseCrfRefinement
from cups.model.tta import PanopticFPNWithTTA, Views

PREDICTION_KEYS = (
    "MODEL.INFERENCE_CONFIDENCE_THRESHOLD",
    "MODEL.TTA_INFERENCE_CONFIDENCE_THRESHOLD",
    "MODEL.TTA_SCALES",
    "DATA.DATASET",
    "DATA.ROOT_VAL",
    "DATA.VAL_SPLIT",
    "DATA.VAL_SCALE",
    "DATA.VAL_CROP_RESOLUTION",
    "VALIDATION.USE_TTA",
    "VALIDATION.USE_CRF",
)


def validation_root(config: CfgNode) -> str:
    """Return the folder of the images and ground truth of the evaluation."""
    return str(config.DATA.ROOT if config.DATA.ROOT_VAL is None else config.DATA.ROOT_VAL)


def views_of(config: CfgNode) -> Views:
    """Return the views of test-time augmentation."""
    return Views(tuple(config.MODEL.TTA_SCALES), flip=True)


def as_evaluated(network: torch.nn.Module, config: CfgNode) -> torch.nn.Module:
    """Give a network what the configuration wants: regions, test-time augmentation, the dense CRF."""
    model, keys = network, config.MODEL
    MergeChoices.of_keys(keys).apply(network)
    if config.VALIDATION.USE_TTA:
        model = PanopticFPNWithTTA(model, views_of(config), keys.TTA_INFERENCE_CONFIDENCE_THRESHOLD)
    if config.VALIDATION.USE_CRF:
        merge: Any = model.merge
        model = DenseCrfRefinement(model, merge, probabilities=config.VALIDATION.USE_TTA)
    return model


def prediction_settings(config: CfgNode, image_dir: Path | None = None) -> dict[str, Any]:
    """Return all that changes what the network predicts: its file, the frames, the keys of inference."""
    settings: dict[str, Any] = {"checkpoint sha256": file_sha256(weights_file(config.MODEL.CHECKPOINT))}
    if image_dir is not None:
        settings["--image_dir"] = str(image_dir.resolve())
    # Younger keys count only where they are given: predictions that were made before them go on.
    if config.DATA.VAL_FRAMES:
        settings["DATA.VAL_FRAMES"] = config.DATA.VAL_FRAMES
    if config.MODEL.USE_TEACHER:
        settings["MODEL.USE_TEACHER"] = True
    settings |= MergeChoices.of_keys(config.MODEL).keys
    for key in PREDICTION_KEYS:
        value = validation_root(config) if key == "DATA.ROOT_VAL" else get(config, key)
        settings[key] = list(value) if isinstance(value, tuple) else value
    return settings
