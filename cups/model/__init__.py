"""The panoptic network of Stage 2 and 3, on detectron2."""

from cups.detectron2_compat import prepare

prepare()  # before any module below imports detectron2

from cups.model.inputs import panoptic_from_output, to_detectron2  # noqa: E402
from cups.model.model import (  # noqa: E402
    DEFAULT_CONFIG,
    freeze_batch_norm,
    panoptic_cascade_mask_r_cnn,
    panoptic_cascade_mask_r_cnn_from_checkpoint,
)
from cups.model.model_vitb import (  # noqa: E402
    VIT_CONFIG,
    panoptic_cascade_mask_r_cnn_vitb,
    vit_overrides,
)

__all__ = [
    "DEFAULT_CONFIG",
    "VIT_CONFIG",
    "freeze_batch_norm",
    "panoptic_cascade_mask_r_cnn",
    "panoptic_cascade_mask_r_cnn_from_checkpoint",
    "panoptic_cascade_mask_r_cnn_vitb",
    "panoptic_from_output",
    "to_detectron2",
    "vit_overrides",
]
