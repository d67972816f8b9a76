"""Each defect of a folder is found, and a good folder has none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cups.errors import UserError
from cups.io.file_names import ALL_PIXELS, INSIDE_INSTANCES, INSTANCE_SUFFIX, SEMANTIC_SUFFIX, SPLIT_FILE
from cups.io.files import write_json
from cups.io.png import read_ids, write_png
from cups.io.provenance import write_provenance
from pseudo_labels.algorithms.cups_format import STATISTICS_FILE, statistics_on_disk, write_statistics
from pseudo_labels.evaluation.diagnose_cups_pseudolabels import main
from pseudo_labels.scoring.diagnosis_findings import frame_findings
from pseudo_labels.scoring.diagnosis_frames import FolderSums

SIZE = (96, 192)
CLASSES = 6
STEMS = tuple(f"aachen_{number:06}_000019" for number in range(4))


@dataclass(frozen=True)
class Labelled:
    """A data root with images of boxes and a flat folder of their exact labels."""

    root: Path
    folder: Path

    def semantic(self, number: int) -> Path:
        return self.folder / f"{STEMS[number]}{SEMANTIC_SUFFIX}"

    def instance(self, number: int) -> Path:
        return self.folder / f"{STEMS[number]}{INSTANCE_SUFFIX}"

    def image(self, number: int) -> Path:
        return self.root / "leftImg8bit" / "train" / "aachen" / f"{STEMS[number]}_leftImg8bit.png"

    def recount(self) -> None:
        write_statistics(self.folder / STATISTICS_FILE, statistics_on_disk(self.folder, CLASSES))

    def change(self, change: Callable[[np.ndarray], np.ndarray], *numbers: int) -> None:
        """Change label files (of all frames by default) and count them anew."""
        for number in numbers or range(len(STEMS)):
            for path in (self.semantic(number), self.instance(number)):
                write_png(path, np.ascontiguousarray(change(read_ids(path))))
        self.recount()


@pytest.fixture(scope="module")
def template(make_folder: Callable[[str], Path]) -> Path:
    """Four frames of 14 boxes: classes 0-3 stuff in columns, boxes of class 4 and 5 with instances."""
    base = make_folder("labelled")
    labelled = Labelled(base / "data", base / "labels")
    for number in range(len(STEMS)):
        generator = np.random.default_rng(number)
        semantic = (np.arange(SIZE[1]) * 4 // SIZE[1] * np.ones((SIZE[0], 1), int)).astype(np.uint8)
        instance = np.zeros(SIZE, np.uint16)
        for box in range(1, 15):
            top, left = generator.integers(0, SIZE[0] - 12), generator.integers(0, SIZE[1] - 12)
            height, width = generator.integers(8, 30, 2)
            window = np.s_[top : top + height, left : left + width]
            semantic[window], instance[window] = 4 + box % 2, box
        colors = generator.integers(30, 220, (256 * 16, 3))
        image = colors[semantic.astype(int) * 16 + instance] + generator.normal(0, 6, (*SIZE, 3))
        write_png(labelled.image(number), image.clip(0, 255).astype(np.uint8))
        write_png(labelled.semantic(number), semantic)
        write_png(labelled.instance(number), instance)
    labelled.recount()
    write_provenance(labelled.folder, script="test", arguments={})
    return base


@pytest.fixture
def labelled(template: Path, tmp_path: Path) -> Labelled:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return Labelled(tmp_path / "data", tmp_path / "labels")


def diagnose(labelled: Labelled, *more: str) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """Return exit code, defects and everything."""
    stem = labelled.folder.parent / "report"
    arguments = ["--cups_dir", str(labelled.folder), "--data_root", str(labelled.root)]
    code = main([*arguments, "--results", str(stem), *more])
    content = json.loads(Path(f"{stem}.json").read_text())
    return code, [finding for finding in content["findings"] if finding["level"] == "defect"], content


def the_defect(labelled: Labelled, *more: str) -> dict[str, Any]:
    """Return the one defect."""
    code, defects, _ = diagnose(labelled, *more)
    assert code == 1 and len(defects) == 1, defects
    return defects[0]


def test_main__good_labels(labelled: Labelled, capsys: Any) -> None:
    code, defects, content = diagnose(labelled, "--split", "train", "--num_workers", "1")
    assert code == 0 and not defects and not content["findings"]
    peak = content["alignment"][0]["all"]
    assert (peak["down"], peak["right"]) == (0, 0)
    assert content["frames"] == 4 and [row["id"] for row in content["classes"]] == list(range(CLASSES))
    assert sum(row["pixels"] for row in content["classes"]) == 4 * SIZE[0] * SIZE[1]
    assert "no defects" in capsys.readouterr().out
    assert (labelled.folder.parent / "report.png").is_file()


@pytest.mark.parametrize("step", [(2, 2), (1, 1)])
def test_main__admissible_sizes(labelled: Labelled, step: tuple[int, int]) -> None:
    labelled.change(lambda ids: ids[:: step[0], :: step[1]])
    assert diagnose(labelled)[0] == 0


def test_main__displaced_labels(labelled: Labelled) -> None:
    labelled.change(lambda ids: np.roll(ids, (4, -9), (0, 1)))
    defect = the_defect(labelled)
    assert defect["check"] == "alignment" and "moved by 9 right and 4 up" in defect["message"]
    assert diagnose(labelled, "--no_alignment")[0] == 0


def test_main__one_displaced_frame(labelled: Labelled) -> None:
    labelled.change(lambda ids: np.roll(ids, 9, 1), 2)
    defect = the_defect(labelled)
    assert defect["check"] == "alignment" and defect["frames"] == [STEMS[2]]


def test_main__labels_of_other_images(labelled: Labelled) -> None:
    for number in range(len(STEMS)):
        coarse = np.random.default_rng(number).integers(0, 255, (9, 17, 3)).astype(np.uint8)
        write_png(labelled.image(number), np.kron(coarse, np.ones((11, 13, 1), np.uint8))[:96, :192].copy())
    assert "stronger under the borders" in the_defect(labelled)["message"]


@pytest.mark.parametrize("suffix", [SEMANTIC_SUFFIX, INSTANCE_SUFFIX])
def test_main__half_a_pair(labelled: Labelled, suffix: str) -> None:
    (labelled.folder / f"{STEMS[1]}{suffix}").unlink()
    checks = {defect["check"]: defect for defect in diagnose(labelled)[1]}
    assert checks["pairs"]["frames"] == [STEMS[1]] and suffix in checks["pairs"]["message"]


def test_main__image_of_the_split_without_labels(labelled: Labelled) -> None:
    for path in (labelled.semantic(0), labelled.instance(0)):
        path.unlink()
    labelled.recount()
    assert diagnose(labelled)[0] == 0
    defect = the_defect(labelled, "--split", "train")
    assert defect["check"] == "pairs" and defect["frames"] == [STEMS[0]]


def test_main__truncated_file(labelled: Labelled) -> None:
    path = labelled.semantic(3)
    path.write_bytes(path.read_bytes()[:-20])
    checks = {defect["check"] for defect in diagnose(labelled)[1]}
    assert checks == {"readable", "statistics"}


def test_main__sizes_that_differ(labelled: Labelled) -> None:
    path = labelled.instance(0)
    write_png(path, read_ids(path)[::2, ::2].copy())
    defects = {defect["check"]: defect for defect in diagnose(labelled)[1]}
    assert "semantic 96x192, instance 48x96" in defects["sizes"]["message"]


def test_main__size_that_fits_no_image(labelled: Labelled) -> None:
    labelled.change(lambda ids: ids[:, :-20], 1)
    defect = the_defect(labelled)
    assert defect["check"] == "sizes" and "96x172 does not fit the image 96x192" in defect["message"]


def test_main__missing_image(labelled: Labelled) -> None:
    labelled.image(2).unlink()
    defect = the_defect(labelled)
    assert defect["check"] == "images" and defect["frames"] == [STEMS[2]]


def test_main__id_beyond_the_classes(labelled: Labelled) -> None:
    semantic = read_ids(labelled.semantic(0))
    instance = read_ids(labelled.instance(0))
    semantic[(semantic == 0) & (instance == 0)] = 77
    write_png(labelled.semantic(0), semantic)
    defects = {defect["check"]: defect for defect in diagnose(labelled)[1]}
    assert "semantic id 77, but there are 6" in defects["ids"]["message"]


def test_main__void_everywhere(labelled: Labelled) -> None:
    write_png(labelled.semantic(0), np.full(SIZE, 255, np.uint8))
    labelled.recount()
    defect = the_defect(labelled)
    assert defect["check"] == "empty" and defect["frames"] == [STEMS[0]]


def test_main__images_without_instances(labelled: Labelled) -> None:
    write_png(labelled.instance(0), np.zeros(SIZE, np.uint16))
    labelled.recount()
    code, _, content = diagnose(labelled)
    assert code == 0 and content["frames_without_instance"] == 1
    assert {finding["check"] for finding in content["findings"]} == {"empty"}
    for number in range(4):
        write_png(labelled.instance(number), np.zeros(SIZE, np.uint16))
    labelled.recount()
    assert {defect["check"] for defect in diagnose(labelled)[1]} == {"empty", "split"}


def test_main__instances_over_several_classes_are_noted(labelled: Labelled) -> None:
    write_png(labelled.instance(0), np.ones(SIZE, np.uint16))
    labelled.recount()
    assert "uniform" in {finding["check"] for finding in diagnose(labelled)[2]["findings"]}


def test_main__statistics_of_other_files(labelled: Labelled) -> None:
    path = labelled.folder / STATISTICS_FILE
    stored = torch.load(path, weights_only=True)
    stored[INSIDE_INSTANCES][4] += 100
    torch.save(stored, path)
    defect = the_defect(labelled)
    assert defect["check"] == "statistics" and "1 of 6 pseudo-classes differ" in defect["message"]
    # A part of the files proves nothing about sums.
    assert diagnose(labelled, "--max_images", "2")[0] == 0


@pytest.mark.parametrize("content", [None, {ALL_PIXELS: torch.ones(6)}, "text"])
def test_main__no_statistics(labelled: Labelled, content: Any) -> None:
    path = labelled.folder / STATISTICS_FILE
    path.unlink()
    if content is not None:
        torch.save(content, path)
    assert the_defect(labelled)["check"] == "statistics"


def test_main__threshold_without_things(labelled: Labelled) -> None:
    assert the_defect(labelled, "--thing_stuff_threshold", "0.9")["check"] == "split"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ('{"num_pseudo_classes": 6}', "damaged"),
        ('{"num_pseudo_classes": 6, "frames": 9}', "9 frames"),
    ],
)
def test_main__format_file(labelled: Labelled, text: str, message: str) -> None:
    (labelled.folder / "format.json").write_text(text)
    defect = the_defect(labelled)
    assert defect["check"] == "format" and message in defect["message"]


def test_main__ground_truth_is_noted(labelled: Labelled) -> None:
    write_provenance(labelled.folder, script="test", arguments={}, uses_ground_truth=True)
    code, _, content = diagnose(labelled)
    assert code == 0 and [finding["check"] for finding in content["findings"]] == ["provenance"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--cups_dir", "nowhere"), "nowhere: no such folder"),
        (("--data_root", "nowhere"), "nowhere: no such folder"),
        (("--split", "val"), "no images"),
        (("--scale", "0"), "`scale`"),
        (("--reach", "2"), "`reach`"),
        (("--tolerance", "0.5"), "`tolerance`"),
        (("--max_images", "0"), "`max_images`"),
    ],
)
def test_main__bad_input(labelled: Labelled, more: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        diagnose(labelled, *more)


def test_main__folder_without_labels(labelled: Labelled) -> None:
    for path in labelled.folder.glob("*.png"):
        path.unlink()
    with pytest.raises(UserError, match="holds no"):
        diagnose(labelled)


def test_main__splits_that_disagree(labelled: Labelled) -> None:
    """Classes 4 and 5 have all instances. The labels' split holds; their semantics must have the same."""
    semantics = labelled.folder.parent / "pseudo_semantic_raw_k6" / SPLIT_FILE
    stuffs = [c for c in range(CLASSES) if c not in (4, 5)]
    write_json(semantics, {"things": [4, 5], "stuffs": stuffs})
    content = {"things": [5, 4], "stuffs": stuffs, "taken_from": str(semantics)}
    write_json(labelled.folder / SPLIT_FILE, content)
    assert diagnose(labelled)[2]["findings"] == []
    write_json(semantics, {"things": [4], "stuffs": [*stuffs, 5]})
    defect = the_defect(labelled)
    assert defect["check"] == "split" and "5 stuff there; convert again" in defect["message"]
    write_json(labelled.folder / SPLIT_FILE, {**content, "things": [4], "stuffs": [*stuffs, 5]})
    code, _, found = diagnose(labelled)
    (note,) = found["findings"]
    assert code == 0 and "published rule (0.08) would decide otherwise: 5 things there" in note["message"]


def test_main__nothing_found_is_a_defect_with_its_cause(labelled: Labelled) -> None:
    """No thing in the split, and why the semantics have none."""
    source = labelled.root / "semantics" / SPLIT_FILE
    write_json(source, {"things": [], "stuffs": list(range(CLASSES)), "nothing_found": "no street in 9 of 9"})
    split = {"things": [], "stuffs": list(range(CLASSES)), "taken_from": str(source)}
    write_json(labelled.folder / SPLIT_FILE, split)
    code, findings, _ = diagnose(labelled)
    messages = [f["message"] for f in findings if f["level"] == "defect" and f["check"] == "empty"]
    assert code == 1 and len(messages) == 1 and "nothing was found: no street in 9 of 9" in messages[0]
    write_json(labelled.folder / SPLIT_FILE, split | {"taken_from": "nowhere"})
    _, findings, _ = diagnose(labelled)
    assert any("no pseudo-class is a thing" in f["message"] for f in findings if f["check"] == "empty")


@pytest.mark.parametrize(("images", "found", "is_defect"), [(100, 4, True), (100, 5, False), (10, 1, False)])
def test_frame_findings__instances_in_few_images(images: int, found: int, is_defect: bool) -> None:
    sums = FolderSums(frames=images, without_instance=images - found, sizes={(4, 4): images})
    texts = [finding.message for finding in frame_findings(sums) if finding.level == "defect"]
    assert bool(texts) == is_defect
    assert not texts or texts[0].startswith("4 of 100 images have an instance")
