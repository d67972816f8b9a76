"""Dense CRF (Kraehenbuehl & Koltun, NeurIPS 2011) with the constants shared by STEGO, CAUSE and CUPS."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from cups.errors import UserError

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
