"""Dense CRF (Kraehenbuehl & Koltun, NeurIPS 2011) with the constants shared by STEGO, CAUSE and CUPS."""

from __future__ import annotations

from importlib.util import find_spec

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cups.errors import UserError
from cups.ops.smooth_labels import smooth_labels

ITERATIONS = 10
SMOOTH_SIGMA, SMOOTH_WEIGHT = 1, 3
BILATERAL_SIGMA, COLOR_SIGMA, BILATERAL_WEIGHT = 67, 3, 4


def require_dense_crf() -> None:
    """Refuse to start what would need the CRF later.

    Raises:
        UserError: pydensecrf2 is not installed.
    """
    if find_spec("pydensecrf") is None:
        raise UserError(
            "dense CRF: needs pydensecrf2 (and a C++ compiler); pip install pydensecrf2, or do without"
        )


def refined_labels(scores: Tensor, image: np.ndarray, sharpness: float, rows: int) -> np.ndarray:
    """Return the labels of an image from scores of its cells, refined by the CRF on a smaller image.

    CAUSE runs the CRF on images of 320 rows. Its reach is in pixels, so there it also spans more of the
    scene, and the time falls with the number of pixels. The probabilities are brought to full size
    bilinearly.

    Args:
        scores: (h, w, K); the CRF starts from softmax(sharpness * scores).
        image: (H, W, 3) uint8 RGB.
        rows: height inside the CRF; images are never enlarged for it, and 0 leaves them as they are.

    Returns:
        (H, W) int64.
    """
    height, width = image.shape[:2]
    scale = min(1.0, (rows or height) / height)
    size = (round(height * scale), max(1, round(width * scale)))
    if scale < 1:
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    full = F.interpolate(scores.permute(2, 0, 1)[None].float(), size=size, mode="bilinear")[0]
    refined = dense_crf_probabilities(image, F.log_softmax(sharpness * full, dim=0).cpu().numpy())
    if scale == 1:
        return refined.argmax(axis=0)
    return smooth_labels(torch.from_numpy(refined).permute(1, 2, 0), (height, width)).numpy()


def dense_crf(image: np.ndarray, log_probabilities: np.ndarray) -> np.ndarray:
    """Return the likeliest labels of `dense_crf_probabilities`: (H, W) int64."""
    return np.argmax(dense_crf_probabilities(image, log_probabilities), axis=0)


def dense_crf_probabilities(image: np.ndarray, log_probabilities: np.ndarray) -> np.ndarray:
    """Refine label probabilities along image edges.

    image: (H, W, 3) uint8 RGB; log_probabilities: (K, H, W) float32 -> (K, H, W) float32 in 0-1.

    Raises:
        UserError: pydensecrf2 is not installed.
    """
    require_dense_crf()
    from pydensecrf.densecrf import DenseCRF2D

    classes, height, width = log_probabilities.shape
    crf = DenseCRF2D(width, height, classes)
    unary = -np.ascontiguousarray(log_probabilities, dtype=np.float32).reshape(classes, -1)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseGaussian(sxy=SMOOTH_SIGMA, compat=SMOOTH_WEIGHT)
    crf.addPairwiseBilateral(
        sxy=BILATERAL_SIGMA, srgb=COLOR_SIGMA, rgbim=np.ascontiguousarray(image), compat=BILATERAL_WEIGHT
    )
    return np.array(crf.inference(ITERATIONS), dtype=np.float32).reshape(classes, height, width)
