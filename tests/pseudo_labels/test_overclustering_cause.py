"""The analysis over many k on codes that hold the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cups.errors import UserError
from cups.io.files import write_npy
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance, write_provenance
from pseudo_labels.generate_overclustered_semantics import main as generate
from pseudo_labels.overclustering_cause import main


@pytest.fixture
def coded_root(tiny_root: Any) -> Any:
    """Codes: one direction per class and some noise, on a 32 x 64 grid; CAUSE labels that know only road."""
    generator = np.random.default_rng(0)
    for stem in tiny_root.stems:
        ids = read_ids(tiny_root.file("pseudo_semantic_mapped_k300", f"{stem}.png"))
        small = cv2.resize(ids, (64, 32), interpolation=cv2.INTER_NEAREST)
        codes = np.eye(20)[small] + 0.1 * generator.standard_normal((32, 64, 20))
        write_npy(tiny_root.file("codes_cause_tr", f"{stem}.npy"), codes.astype(np.float16))
        write_png(
            tiny_root.file("pseudo_semantic_cause27", f"{stem}.png"),
            np.where(ids == 0, 0, 5).astype(np.uint8),
        )
    for name in ("codes_cause_tr", "pseudo_semantic_cause27"):
        write_provenance(tiny_root.path / name, script="test", arguments={})
    return tiny_root


def analyse_only(root: Any, *more: str) -> None:
    split = ["--split", "train", "--num_workers", "1"]
    assert main(["--cityscapes_root", str(root.path), *split, "--ks", "12", "3", *more]) == 0


def analyse(root: Any, *more: str) -> dict[str, Any]:
    analyse_only(root, *more)
    return json.loads((folder_of(root) / "analysis.json").read_text())


def folder_of(root: Any) -> Path:
    return root.path / "overclustering_codes"


def test_main__more_clusters_recover_the_classes(coded_root: Any, capsys: Any) -> None:
    content = analyse(coded_root)
    plain, three, twelve = content["scores"]
    assert [score["name"] for score in content["scores"]] == ["plain CAUSE", "k = 3", "k = 12"]
    assert plain["recovered"] == ["road", "building"] and plain["inertia"] is None
    assert plain["iou"]["train"]["many-to-one"]["car"] == 0.0
    assert plain["miou"]["train"]["named"] < plain["miou"]["train"]["many-to-one"]
    assert (
        twelve["recovered"] == ["road", "building", "car"] and twelve["miou"]["train"]["many-to-one"] > 0.85
    )
    assert twelve["purity_weighted"] > 0.95 and twelve["inertia"] < three["inertia"]
    assert twelve["miou"]["train"]["one-to-one"] < twelve["miou"]["train"]["many-to-one"]
    text = capsys.readouterr().out
    assert "k = 12" in text and "analysis only" in text and "flatters large k" in text
    assert (folder_of(coded_root) / "analysis.png").stat().st_size > 10_000


@pytest.mark.parametrize("regions", [[], ["--regions"]])
def test_main__counts_the_labels_that_the_generator_writes(coded_root: Any, regions: list[str]) -> None:
    analyse_only(coded_root, *regions)
    generate(["--cityscapes_root", str(coded_root.path), "--k", "12", "--raw", *regions])
    expected = np.zeros((12, 27), np.int64)
    for stem in coded_root.stems:
        clusters = read_ids(coded_root.file("pseudo_semantic_raw_k12", f"{stem}.png"))
        classes = read_ids(coded_root.file("gtFine", f"{stem}_gtFine_labelIds.png")) - 7
        np.add.at(expected, (clusters, classes), 1)
    folder = coded_root.path / ("overclustering_codes_regions" if regions else "overclustering_codes")
    with np.load(folder / "counts_train_k12.npz") as stored:
        assert np.array_equal(stored["counts"][:12], expected)


def test_main__provenance_says_that_labels_were_read(coded_root: Any) -> None:
    analyse(coded_root)
    provenance = read_provenance(folder_of(coded_root))
    assert provenance is not None and provenance["uses_ground_truth"] is True


def test_main__a_second_run_counts_nothing_again(coded_root: Any) -> None:
    first = analyse(coded_root)
    # Without the codes, only what is stored can be used.
    for path in (coded_root.path / "codes_cause_tr").rglob("*.npy"):
        path.unlink()
    assert analyse(coded_root)["scores"] == first["scores"]


def test_main__matching_fitted_on_another_split(coded_root: Any) -> None:
    for folder in ("leftImg8bit", "gtFine", "codes_cause_tr", "pseudo_semantic_cause27"):
        for path in (coded_root.path / folder / "train").rglob("*.*"):
            target = Path(str(path).replace("/train/", "/val/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    twelve = analyse(coded_root, "--match_split", "val")["scores"][-1]
    assert twelve["miou"]["val"] == twelve["miou"]["train"]
    assert "flatters" not in (folder_of(coded_root) / "analysis.md").read_text()


def test_main__without_plain_cause(coded_root: Any, caplog: Any) -> None:
    folder = coded_root.path / "pseudo_semantic_cause27"
    folder.rename(coded_root.path / "elsewhere")
    assert [score["name"] for score in analyse(coded_root)["scores"]] == ["k = 3", "k = 12"]
    assert "left out" in caplog.text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--ks", "1"), "`ks` 1: must be at least 2"),
        (("--ks", "60000"), "larger than the"),
        (("--recovered_iou", "2"), "`recovered_iou`"),
        (("--output_root", "nowhere"), "codes_cause_tr: no such folder"),
    ],
)
def test_main__bad_input(coded_root: Any, more: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        analyse(coded_root, *more)


def test_main__needs_ground_truth(coded_root: Any) -> None:
    with pytest.raises(UserError, match="`cityscapes_root`: missing"):
        main(["--image_dir", str(coded_root.path / "leftImg8bit"), "--output_root", str(coded_root.path)])
    coded_root.file("gtFine", f"{coded_root.stems[0]}_gtFine_labelIds.png").unlink()
    with pytest.raises(UserError, match=r"gtFine_labelIds\.png: no such file"):
        analyse(coded_root)
