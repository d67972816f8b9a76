"""What was fitted serves later runs on the same data, or a part of it, and no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cups.errors import UserError
from pseudo_labels.algorithms.overclustering import Fits
from pseudo_labels.inputs.cluster_names import names_of

SETTINGS = {"k": 2, "seed": 0}


def fit(fits: Fits, value: float = 1.0) -> np.ndarray:
    return fits.load_or_fit("centroids.npz", lambda: np.full((2, 3), value), SETTINGS)


@pytest.fixture
def whole(tmp_path: Path) -> Fits:
    return Fits(tmp_path, frames=["a", "b", "c"], source="codes")


def test_fits__of_one_image_are_not_taken_for_those_of_all(whole: Fits) -> None:
    fit(replace(whole, frames=["a"]))
    with pytest.raises(
        UserError, match=r"fitted on 1 image, without 2 of the 3 of this run \(b \.\.\.\); add"
    ):
        fit(whole)
    assert fit(replace(whole, overwrite=True), 2.0)[0, 0] == 2.0
    assert fit(whole, 3.0)[0, 0] == 2.0


def test_fits__of_all_images_serve_a_part(whole: Fits) -> None:
    fit(whole)
    assert fit(replace(whole, frames=["b"]), 2.0)[0, 0] == 1.0


def test_fits__of_other_vectors_are_refused(whole: Fits) -> None:
    fit(whole)
    with pytest.raises(
        UserError, match="fitted on other vectors, which were made anew since; add `overwrite`"
    ):
        fit(replace(whole, source="codes of another network"))


def test_fits__of_version_0_2_0_are_taken(
    whole: Fits, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    np.savez(tmp_path / "centroids.npz", centroids=np.ones((2, 3)), **SETTINGS)
    assert fit(whole, 2.0)[0, 0] == 1.0
    assert "does not tell which images it was fitted on" in caplog.text
    np.savez(tmp_path / "centroids.npz", centroids=np.ones((2, 3)), k=3, seed=0)
    with pytest.raises(UserError, match="made with"):
        fit(whole)


def test_fits__files_of_other_images_are_not_left_behind(whole: Fits, tmp_path: Path) -> None:
    """One split overwritten alone would leave the other with the old clusters under the new centroids."""
    fit(whole)
    date = (tmp_path / "centroids.npz").stat().st_mtime_ns
    one_split = replace(whole, overwrite=True, stays=4)
    with pytest.raises(UserError, match="4 files made with it are of images not in this run"):
        fit(one_split, 2.0)
    assert fit(one_split)[0, 0] == 1.0
    assert (tmp_path / "centroids.npz").stat().st_mtime_ns == date  # so the other split is not redone either


def test_keep_names__other_names_are_refused(whole: Fits) -> None:
    def table(fits: Fits, *values: int) -> list[int]:
        names = names_of(np.array(values), None, "a test")
        return fits.keep_names("names.json", lambda: names).tolist()  # type: ignore[no-any-return]

    assert table(whole, 0, 1) == table(whole, 0, 1) == [0, 1]
    with pytest.raises(UserError, match="other names when it was made; add `overwrite`"):
        table(whole, 1, 0)
    with pytest.raises(UserError, match="4 files made with it"):
        table(replace(whole, overwrite=True, stays=4), 1, 0)
    assert table(replace(whole, overwrite=True), 1, 0) == [1, 0]
