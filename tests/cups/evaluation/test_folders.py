"""Label files of any tool scored against each other; every right answer is known."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cups.builders.folder_scores import score_folders
from cups.config import build_config
from cups.errors import UserError
from cups.evaluation.comparison import rows_of
from cups.evaluation.folders import pair
from cups.evaluation.results import Result, read_results, rows_path
from cups.folder_settings import FolderSettings
from cups.io.coco_panoptic import to_rgb
from cups.io.png import write_png

CLASSES = """
classes:
  - {id: 3, name: grass, thing: false, color: [0, 200, 0]}
  - {id: 40, name: sky, thing: false, color: [0, 0, 200]}
  - {id: 12, name: cow, thing: true, color: [200, 0, 0]}
  - {id: 13, name: dog, thing: true, color: [200, 200, 0]}
ignore: [0]
"""
FRAMES = ("a/1", "a/2", "b/1")


def field(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and plain instance numbers: two cows and a dog on grass under a sky, with a void corner."""
    ids = np.full((32, 48), 3, np.uint8)
    ids[:10] = 40
    ids[-4:, -4:] = 0
    numbers = np.zeros((32, 48), np.uint16)
    for index, (label, left) in enumerate(((12, 2), (12, 16), (13, 30)), start=1):
        place = np.s_[14:24, left + number : left + number + 8]
        ids[place], numbers[place] = label, index
    return ids, numbers


def write_ids(folder: Path, change: Any = None, names: tuple[str, ...] = FRAMES) -> Path:
    """Write frames as `semantic/` and `instance/`; change: function of both maps."""
    for number, name in enumerate(names):
        ids, numbers = field(number)
        ids, numbers = change(ids, numbers) if change else (ids, numbers)
        write_png(folder / "semantic" / f"{name}.png", ids)
        write_png(folder / "instance" / f"{name}.png", numbers)
    return folder


def write_coco(folder: Path, bgr: bool = False) -> Path:
    """Write frames as another tool does: segment ids are colours without meaning."""
    rng, annotations = np.random.default_rng(0), []
    for number, name in enumerate(FRAMES):
        ids, numbers = field(number)
        segments, info = np.zeros(ids.shape, np.int64), []
        for label, instance in sorted({*zip(ids.ravel().tolist(), numbers.ravel().tolist(), strict=True)}):
            if label:
                segment = int(rng.integers(1, 2**24))
                segments[(ids == label) & (numbers == instance)] = segment
                info.append({"id": segment, "category_id": label, "iscrowd": 0})
        pixels = to_rgb(segments)
        write_png(folder / "set" / f"{name}.png", pixels[..., ::-1].copy() if bgr else pixels)
        annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": info})
    names = {3: "grass", 40: "sky", 12: "cow", 13: "dog"}
    categories = [{"id": i, "name": n, "isthing": int(i in (12, 13))} for i, n in names.items()]
    path = folder / "set.json"
    path.write_text(json.dumps({"images": [], "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    path = tmp_path / "field.yaml"
    path.write_text(CLASSES)
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write_ids(tmp_path / "truth")


def score(classes: Path | None, truth: Path, prediction: Path, **more: Any) -> dict[str, Result]:
    output = prediction.parent / "scores"
    config = build_config(None, ["SYSTEM.NUM_WORKERS", "0"], {})
    if classes is not None:
        config = build_config(None, ["SYSTEM.NUM_WORKERS", "0", "DATA.CLASSES", str(classes)], {})
    score_folders(config, FolderSettings(truth, prediction, **more), output)
    return {result.void_rule: result for result in read_results(output / "results.json")}


def test_score__own_classes_are_perfect_in_every_format(classes: Path, truth: Path, tmp_path: Path) -> None:
    """Id maps and COCO sets, by name and by matching, as prediction and as ground truth."""
    coco = write_coco(tmp_path)
    cases = (
        (classes, truth, truth, {}, "Hungarian matching"),
        (classes, truth, truth, {"prediction_ids": "id"}, "classes by name"),
        (classes, truth, coco, {}, "classes by name"),
        (classes, truth, coco.with_suffix(""), {"prediction_ids": "clusters"}, "Hungarian matching"),
        (None, coco, truth, {}, "Hungarian matching"),
        (None, coco, coco, {}, "4 classes of"),
    )
    for file, right, guess, more, words in cases:
        results = score(file, right, guess, **more)
        for result in results.values():
            assert {result.metrics[key] for key in ("pq", "sq", "rq", "miou", "pq_things")} == {1.0}, words
            assert words in result.protocol
            assert set(result.per_class) == {"grass", "sky", "cow", "dog"}
    assert (tmp_path / "scores" / "results.md").is_file() and (tmp_path / "scores" / "results.csv").is_file()


def test_score__a_missed_cow_and_a_wrong_name(classes: Path, truth: Path, tmp_path: Path) -> None:
    """One of two cows is missed in each frame: recall 1/2, so RQ = 2/3; the dog is called a cow."""

    def change(ids: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gone = numbers == 2
        return np.where(gone, 0, ids).astype(np.uint8), np.where(gone, 0, numbers).astype(np.uint16)

    missed = score(classes, truth, write_ids(tmp_path / "missed", change), prediction_ids="id")["standard"]
    assert missed.per_class["cow"]["rq"] == pytest.approx(2 / 3)
    assert missed.per_class["dog"]["pq"] == 1.0
    renamed = write_ids(tmp_path / "renamed", lambda i, n: (np.where(i == 13, 12, i).astype(np.uint8), n))
    named = score(classes, truth, renamed, prediction_ids="id")["standard"]
    assert named.per_class["dog"]["pq"] == 0.0 and named.per_class["cow"]["rq"] == pytest.approx(2 * 6 / 15)
    assert named.metrics["miou"] < 1


def test_score__both_void_rules(classes: Path, truth: Path, tmp_path: Path) -> None:
    """Void in place of the upper sky is an error under one rule alone."""

    def change(ids: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ids[:3] = 0
        return ids, numbers

    both = score(classes, truth, write_ids(tmp_path / "void", change), prediction_ids="id")
    assert both["standard"].per_class["sky"]["sq"] == pytest.approx(0.7)
    assert both["upstream"].per_class["sky"]["sq"] == 1.0


@pytest.mark.parametrize("ids", ["clusters", "id"])
def test_score__rows_stand_beside_panoptic_results_alone(
    classes: Path, truth: Path, tmp_path: Path, ids: str, rows_agree: Any
) -> None:
    """Matched and named classes; semantics alone remove the rows of before."""
    renamed = write_ids(tmp_path / "renamed", lambda i, n: (np.where(i == 13, 12, i).astype(np.uint8), n))
    score(classes, truth, renamed, prediction_ids=ids)
    stem = tmp_path / "scores" / "results"
    rows_agree(stem)
    assert rows_of(stem).names.tolist() == list(FRAMES)
    score(classes, truth, (tmp_path / "renamed" / "semantic").rename(tmp_path / "alone"), prediction_ids=ids)
    assert not rows_path(stem).is_file()


def test_score__half_size_predictions_and_semantics_alone(classes: Path, truth: Path, tmp_path: Path) -> None:
    small = write_ids(tmp_path / "small", lambda i, n: (i[::2, ::2].copy(), n[::2, ::2].copy()))
    assert score(classes, truth, small, prediction_ids="id")["standard"].metrics["pq"] > 0.7
    alone = score(classes, truth, truth / "semantic", prediction_ids="id")["standard"]
    assert alone.metrics == {"miou": 1.0, "accuracy": 1.0} and "semantic" in alone.protocol
    other = write_ids(tmp_path / "other", lambda i, n: (i[:, :30].copy(), n[:, :30].copy()))
    with pytest.raises(UserError, match=r"a/1 is 32x30, which does not fit the ground truth 32x48"):
        score(classes, truth, other)


def test_score__frames_missing_or_extra_are_named(classes: Path, truth: Path, tmp_path: Path) -> None:
    part = write_ids(tmp_path / "part", names=(*FRAMES[:2], "c/9"))
    with pytest.raises(
        UserError, match=r"1 of 3 frames .* have no prediction, first b/1; .*`only_predicted`"
    ):
        score(classes, truth, part)
    score(classes, truth, part, only_predicted=True)
    report = (tmp_path / "scores" / "results.md").read_text()
    assert "1 frames without a prediction, left out: b/1" in report
    assert "1 frames predicted without ground truth: c/9" in report
    with pytest.raises(UserError, match=r"no frame of .* is predicted; .* there a/1, here x"):
        score(classes, truth, write_ids(tmp_path / "none", names=("x",)))


def test_score__palette_files_and_train_ids(classes: Path, truth: Path, tmp_path: Path) -> None:
    places = {3: 0, 40: 1, 12: 2, 13: 3, 0: 255}
    table = np.array([places.get(value, 255) for value in range(256)], np.uint8)
    for number, name in enumerate(FRAMES):
        ids, numbers = field(number)
        picture = Image.fromarray(table[ids], "P")
        picture.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
        (tmp_path / "voc" / "semantic" / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "voc" / "semantic" / f"{name}.png")
        write_png(tmp_path / "voc" / "instance" / f"{name}.png", numbers)
    right = score(classes, truth, tmp_path / "voc", prediction_ids="trainId")["standard"]
    assert right.metrics["pq"] == 1.0 and right.metrics["miou"] == 1.0
    assert score(classes, tmp_path / "voc", truth, truth_ids="trainId")["standard"].metrics["pq"] == 1.0


def test_score__what_is_no_label_map_is_named(classes: Path, truth: Path, tmp_path: Path) -> None:
    (tmp_path / "bgr").mkdir()
    with pytest.raises(UserError, match="red and blue are swapped"):
        score(classes, truth, write_coco(tmp_path / "bgr", bgr=True))
    write_png(tmp_path / "colour" / "a" / "1.png", np.zeros((32, 48, 3), np.uint8))
    with pytest.raises(UserError, match=r"a/1.png: is a colour picture, and ids are due"):
        score(classes, tmp_path / "colour", tmp_path / "colour")
    coco = write_coco(tmp_path)
    write_png(tmp_path / "set" / "a" / "1.png", field(0)[0])
    with pytest.raises(UserError, match="has one channel, a COCO panoptic PNG has three"):
        score(classes, truth, coco)
    other = tmp_path / "other.yaml"
    other.write_text("classes: [{id: 7, name: pig, thing: true}]")
    with pytest.raises(UserError, match=r"none of its categories \(grass, .* is one of .* \(pig\)"):
        score(other, coco, truth)
    with pytest.raises(UserError, match="no such folder"):
        score(classes, truth, tmp_path / "nowhere")
    with pytest.raises(UserError, match="`prediction`: missing"):
        score_folders(build_config(), FolderSettings(truth, None))
    with pytest.raises(UserError, match="`truth_ids` clusters: unknown; choose from id, trainId"):
        FolderSettings(truth, truth, truth_ids="clusters")


def test_score__numbers_that_restart_in_each_class(classes: Path, truth: Path, tmp_path: Path) -> None:
    def change(ids: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return ids, np.where(numbers == 3, 1, numbers).astype(np.uint16)

    wrong = write_ids(tmp_path / "wrong", change)
    for ids in ("id", "clusters"):
        with pytest.raises(UserError, match="3 instance numbers are in several classes"):
            score(classes, truth, wrong, prediction_ids=ids)
    with pytest.raises(UserError, match="instance 1 is in cow and in dog"):
        score(classes, wrong, truth)


def test_score__video_knows_objects_by_their_ids(classes: Path, truth: Path, tmp_path: Path) -> None:
    """Frames a/1 and a/2 are a clip, b/1 is one of its own; in a/2 the two cows exchange their numbers.

    Each cow has 80 pixels a frame in the clip: TPA 80, FPA 80, FNA 80 with each of two tracks, so 1/3 for
    each; the dog, and the three objects of b/1, are kept: AQ = (2 / 3 + 1 + 3) / 6.
    """
    frames = iter(FRAMES)

    def change(ids: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        exchanged = np.array([0, 2, 1, 3], np.uint16)[numbers] if next(frames) == "a/2" else numbers
        return ids, exchanged

    switched = write_ids(tmp_path / "switched", change)
    result = score(classes, truth, switched, prediction_ids="id", video=True)["standard"].metrics
    assert result["pq"] == result["stq_sq"] == result["vpq_1"] == 1.0
    assert result["aq"] == pytest.approx((2 / 3 + 4) / 6)
    assert result["stq"] == pytest.approx(np.sqrt((2 / 3 + 4) / 6))
    assert result["vpq_2_things"] == pytest.approx(1 / 2)  # the cows' tubes match none, the dog's does
    assert np.isnan(result["vpq"])  # no clip has three frames
    report = (tmp_path / "scores" / "results.md").read_text()
    assert "STQ" in report and "VPQ things" in report
    same = score(classes, truth, truth, prediction_ids="id", video=True)["standard"].metrics
    assert same["stq"] == same["vpq_2"] == 1.0
    assert "stq" not in score(classes, truth, truth, prediction_ids="id")["standard"].metrics


def test_score__video_of_a_coco_set_and_without_objects(classes: Path, truth: Path, tmp_path: Path) -> None:
    coco = write_coco(tmp_path)  # other ids in each frame: no object is the same in two
    result = score(classes, truth, coco, video=True)["standard"].metrics
    assert result["pq"] == 1.0 and result["aq"] == pytest.approx((3 * 1 / 2 + 3) / 6)
    with pytest.raises(UserError, match="`video`: needs objects on both sides"):
        score(classes, truth, truth / "semantic", prediction_ids="id", video=True)


def test_pair__images_of_cityscapes_and_their_ground_truth() -> None:
    """`predict.py` names its maps after the images, and ground truth is named without their ending."""
    truth = SimpleNamespace(names=["val/a/a_000000_000019", "val/b/b_000000_000019"], path="gtFine")
    guess = SimpleNamespace(names=["b/b_000000_000019_leftImg8bit"], path="panoptic.json")
    pairs = pair(truth, guess)  # type: ignore[arg-type]
    assert pairs.both == (("val/b/b_000000_000019", "b/b_000000_000019_leftImg8bit"),)
    assert pairs.missing == ("val/a/a_000000_000019",) and pairs.extra == ()
