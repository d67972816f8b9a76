"""Dense CRF: labels follow image edges; a clear word where the package is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from cups.errors import UserError
from cups.ops.dense_crf import dense_crf, dense_crf_probabilities, require_dense_crf


def frame() -> tuple[np.ndarray, np.ndarray]:
    """Return a picture of two colours and log-probabilities whose border lies three pixels off."""
    image = np.full((24, 32, 3), 20, np.uint8)
    image[:, 16:] = 230
    right = np.full((24, 32), 0.2)
    right[:, 19:] = 0.8
    return image, np.log(np.stack((1 - right, right))).astype(np.float32)


def test_dense_crf__moves_the_border_to_the_edge() -> None:
    pytest.importorskip("pydensecrf")
    labels = dense_crf(*frame())
    assert labels.shape == (24, 32) and (labels == (np.arange(32) >= 16)).all()


def test_dense_crf_probabilities__sum_to_one() -> None:
    pytest.importorskip("pydensecrf")
    probabilities = dense_crf_probabilities(*frame())
    assert probabilities.shape == (2, 24, 32) and np.allclose(probabilities.sum(axis=0), 1, atol=1e-4)


def test_dense_crf__names_the_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    for use in (require_dense_crf, lambda: dense_crf(*frame())):
        with pytest.raises(UserError, match=r"^[^\n]*C\+\+ compiler[^\n]*; pip install pydensecrf2"):
            use()
