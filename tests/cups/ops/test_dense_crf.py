"""Dense CRF: labels follow image edges; a clear word where the package is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from cups.errors import UserError
from cups.ops import dense_crf as dense_crf_module
from cups.ops.dense_crf import dense_crf, dense_crf_probabilities, refined_labels, require_dense_crf


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


@pytest.mark.parametrize("rows", [0, 240, 24])
def test_refined_labels__follow_the_edge_at_any_size(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CRF sees images of `rows` rows at most; labels come back at full size, to a pixel of the edge."""
    pytest.importorskip("pydensecrf")
    image, log_probabilities = frame()
    image = image.repeat(5, axis=0).repeat(5, axis=1)
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(dense_crf_module, "dense_crf_probabilities", spied(seen))
    scores = torch.from_numpy(log_probabilities).permute(1, 2, 0)
    labels = refined_labels(scores, image, 1.0, rows)
    assert seen == [(24, 32) if rows == 24 else (120, 160)]
    assert labels.shape == (120, 160) and np.abs((labels == 0).sum(axis=1) - 80).max() <= 1


def spied(seen: list[tuple[int, ...]]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return the CRF, which notes the size of the images."""

    def crf(image: np.ndarray, log_probabilities: np.ndarray) -> np.ndarray:
        assert log_probabilities.shape[1:] == image.shape[:2]
        seen.append(image.shape[:2])
        return dense_crf_probabilities(image, log_probabilities)

    return crf
