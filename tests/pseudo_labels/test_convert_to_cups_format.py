"""The CUPS training format: files, statistics, schema."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cups.data import PseudoLabelDataset
from cups.errors import UserError
from cups.evaluation.results import read_results
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance, write_provenance
from cups.io.thing_stuff import read_split
from pseudo_labels.convert_to_cups_format import main
from pseudo_labels.evaluation.evaluate_cascade_pseudolabels import main as evaluate
from pseudo_labels.generate_depth_guided_instances import main as make_instances
from pseudo_labels.steps.label_kind import LabelKind
from tests.pseudo_labels.conftest import write_stereo_depth


@pytest.fixture
def ready_root(tiny_root: Any) -> Any:
    """A root with depth-guided instances."""
    root = ["--cityscapes_root", str(tiny_root.path)]
    write_stereo_depth(tiny_root)
    make_instances([*root, "--semantic_subdir", "pseudo_semantic_mapped_k300", "--min_area", "20"])
    return tiny_root


def run(root: Any, *more: str) -> int:
    instances = ("--instance_subdir", "pseudo_instance_depth_guided_mapped_k300")
    folders = ("--output_dir", str(root.path / "cups"), *instances)
    return main(["--cityscapes_root", str(root.path), *folders, *more])


def stored(root: Any) -> dict[str, torch.Tensor]:
    return torch.load(root.path / "cups" / "pseudo_classes_split_1.pt", weights_only=True)


def test_main__the_readme_command_gives_a_training_set(ready_root: Any) -> None:
    run(ready_root, "--trainid_input")
    folder = ready_root.path / "cups"
    keys = {"distribution all pixels", "distribution inside object proposals"}
    assert keys <= set(stored(ready_root)) and stored(ready_root)["distribution all pixels"].shape == (19,)
    sample = PseudoLabelDataset(ready_root.path, folder, scale=1.0, crop=(64, 128))[0]
    assert sample.masks.shape == (2, 64, 128) and sample.classes.tolist() == [0, 0]
    content = json.loads((folder / "format.json").read_text())
    assert content["label_size"] == [64, 128] and content["num_pseudo_classes"] == 19
    provenance = read_provenance(folder)
    assert provenance is not None and provenance["uses_ground_truth"] is False


def test_main__statistics_survive_a_resume(ready_root: Any) -> None:
    # Upstream re-read existing files through a 0-1 image transform: after a resume all counts were class 0.
    run(ready_root, "--trainid_input")
    whole = stored(ready_root)
    (ready_root.path / "cups" / f"{ready_root.stems[0]}_leftImg8bit_semantic.png").unlink()
    run(ready_root, "--trainid_input")
    for key, value in stored(ready_root).items():
        assert (value == whole[key]).all()
    counted = whole["distribution all pixels"]
    assert counted.sum() == 2 * 64 * 128 and counted[13] > 0


def test_main__semantics_are_uniform_inside_instances(ready_root: Any) -> None:
    path = ready_root.file("pseudo_semantic_mapped_k300", f"{ready_root.stems[0]}.png")
    semantic = read_ids(path)
    semantic[38:41, 85:95] = 0
    write_png(path, semantic)
    run(ready_root, "--trainid_input")
    prefix = ready_root.path / "cups" / f"{ready_root.stems[0]}_leftImg8bit_"
    unified, instance = (
        read_ids(prefix.with_name(prefix.name + "semantic.png")),
        read_ids(prefix.with_name(prefix.name + "instance.png")),
    )
    assert unified.dtype == np.uint8 and instance.dtype == np.uint16
    for index in range(1, int(instance.max()) + 1):
        assert len(np.unique(unified[instance == index])) == 1


@pytest.mark.parametrize(("count", "dtype"), [(254, np.uint8), (300, np.uint16)])
def test_main__more_than_254_classes_take_16_bits(ready_root: Any, count: int, dtype: type) -> None:
    raw = f"pseudo_semantic_raw_k{count}"
    for stem in ready_root.stems:
        semantic = read_ids(ready_root.file("pseudo_semantic_mapped_k300", f"{stem}.png")).astype(np.uint16)
        semantic[semantic == 2] = count - 1
        semantic[0, 0] = 253
        write_png(ready_root.file(raw, f"{stem}.png"), semantic.astype(dtype))
    run(ready_root, "--num_semantic_classes", str(count))
    path = ready_root.path / "cups" / f"{ready_root.stems[0]}_leftImg8bit_semantic.png"
    assert read_ids(path).dtype == dtype and read_ids(path).max() == count - 1
    assert stored(ready_root)["distribution all pixels"][count - 1] > 0


def test_main__class_beyond_the_count_is_named(ready_root: Any) -> None:
    with pytest.raises(UserError, match=r"png: holds class 13, but there are 7"):
        run(ready_root, "--num_semantic_classes", "7", "--semantic_subdir", "pseudo_semantic_mapped_k300")


def test_main__sizes_that_differ_name_the_file(ready_root: Any) -> None:
    path = ready_root.file("pseudo_instance_depth_guided_mapped_k300", f"{ready_root.stems[0]}.png")
    write_png(path, read_ids(path)[:, ::2])
    with pytest.raises(UserError, match=rf"{ready_root.stems[0]}.png: size 64x64.*64x128"):
        run(ready_root, "--trainid_input")


def test_main__missing_instances_name_the_step(tiny_root: Any) -> None:
    with pytest.raises(UserError, match="pseudo_instance_depth_guided_mapped_k300: no such folder"):
        run(tiny_root, "--trainid_input")
    with pytest.raises(UserError, match=r"generate_depth_spidepth.py, then .*depth_guided_instances.py"):
        main(["--cityscapes_root", str(tiny_root.path), "--trainid_input"])


def permuted(root: Any, order: Sequence[int], k: int) -> None:
    """Write a perfect clustering, rows in some order, as `pseudo_semantic_raw_k{k}`."""
    table = np.full(256, 255, np.uint8)
    table[[0, 2, 13]] = order
    for stem in root.stems:
        semantic = read_ids(root.file("pseudo_semantic_mapped_k300", f"{stem}.png"))
        write_png(root.file(f"pseudo_semantic_raw_k{k}", f"{stem}.png"), table[semantic].astype(np.uint16))
    labels = LabelKind("clusters", k).content()
    write_provenance(root.path / f"pseudo_semantic_raw_k{k}", script="x", arguments={}, labels=labels)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (11, 4, 0)])
def test_main__the_order_of_clusters_means_nothing(tiny_root: Any, order: tuple[int, int, int]) -> None:
    """From clusters in any order to training labels: the same things, the same scores, no label read.

    Reading row i as class i gave instances on road and sky, and PQ 20 for 74.
    """
    permuted(tiny_root, order, 12)
    root = ["--cityscapes_root", str(tiny_root.path)]
    write_stereo_depth(tiny_root)
    make_instances([*root, "--semantic_subdir", "pseudo_semantic_raw_k12", "--min_area", "20"])
    main([*root, "--num_semantic_classes", "12"])
    folder = tiny_root.path / "cups_pseudo_labels_raw_k12"
    split = read_split(folder / "thing_stuff_split.json")
    assert split.things == (order[2],) and len(split.stuffs) == 11
    assert (
        read_split(tiny_root.path / "pseudo_semantic_raw_k12" / "thing_stuff_split.json").things
        == split.things
    )
    assert PseudoLabelDataset(tiny_root.path, folder, scale=1.0, crop=(64, 128)).split == split
    told = json.loads((folder / "format.json").read_text())["split"]
    assert told["things"] == [order[2]] and told["taken_from"].endswith("raw_k12/thing_stuff_split.json")
    assert (read_provenance(folder) or {})["uses_ground_truth"] is False
    scored = ["--split", "train", "--cups_dir", str(folder), "--results", str(tiny_root.path / "out")]
    evaluate([*root, *scored])
    (result,) = (
        r
        for r in read_results(tiny_root.path / "out.json")
        if r.name == folder.name and r.void_rule == "standard"
    )
    assert result.metrics["pq"] > 0.95


def test_main__trainid_input_without_named_labels_converts_clusters(
    tiny_root: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The line of the first description: clusters are what there is, and what training takes."""
    permuted(tiny_root, (7, 200, 299 % 256), 300)
    (tiny_root.path / "pseudo_semantic_mapped_k300").rename(tiny_root.path / "elsewhere")
    root = ["--cityscapes_root", str(tiny_root.path)]
    write_stereo_depth(tiny_root)
    with caplog.at_level(logging.INFO):
        main([*root, "--output_dir", str(tiny_root.path / "cups"), "--trainid_input"])
    assert "holds clusters, and they are converted as clusters" in caplog.text
    assert "made with the defaults of generate_depth_guided_instances.py" in caplog.text
    assert (tiny_root.path / "pseudo_instance_depth_guided_raw_k300").is_dir()
    content = json.loads((tiny_root.path / "cups" / "format.json").read_text())
    assert content["num_pseudo_classes"] == 300 and content["split"]["things"] == [43]


def test_main__clusters_without_depth_name_the_steps(tiny_root: Any) -> None:
    permuted(tiny_root, (0, 1, 2), 12)
    with pytest.raises(
        UserError, match=r"classify_stuff_things.py `semantic_subdir` pseudo_semantic_raw_k12"
    ):
        run(tiny_root, "--num_semantic_classes", "12")


def test_main__empty_image_folder(tiny_root: Any) -> None:
    for path in (tiny_root.path / "leftImg8bit" / "train" / "aachen").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="no images inside"):
        run(tiny_root, "--trainid_input")


def clusters(root: Any, name: str, count: int) -> tuple[str, str]:
    """Write clusters into a folder that says how many they are; returns the flags that name it."""
    for stem in root.stems:
        semantic = read_ids(root.file("pseudo_semantic_mapped_k300", f"{stem}.png"))
        write_png(root.file(name, f"{stem}.png"), semantic)
    write_provenance(
        root.path / name, script="x", arguments={}, labels=LabelKind("clusters", count).content()
    )
    return "--semantic_subdir", name


def modified(root: Any) -> list[int]:
    return [path.stat().st_mtime_ns for path in sorted((root.path / "cups").glob("*.png"))]


def test_main__the_folder_tells_the_number_of_classes(ready_root: Any) -> None:
    where = clusters(ready_root, "mine", 14)
    run(ready_root, *where)
    folder = ready_root.path / "cups"
    content = json.loads((folder / "format.json").read_text())
    assert content["num_pseudo_classes"] == 14 and content["semantic_subdir"] == "mine"
    provenance = read_provenance(folder)
    assert provenance is not None and provenance["labels"] == LabelKind("clusters", 14).content()
    assert provenance["arguments"]["num_semantic_classes"] == 14
    before = modified(ready_root)
    run(ready_root, *where, "--num_semantic_classes", "14")  # says the same, so it resumes
    assert modified(ready_root) == before


def test_main__train_ids_told_or_named_are_the_same(ready_root: Any) -> None:
    run(ready_root, "--semantic_subdir", "pseudo_semantic_mapped_k300")
    before = modified(ready_root)
    run(ready_root, "--trainid_input")
    assert modified(ready_root) == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--num_semantic_classes", "50"), r"^`num_semantic_classes` 50: .*mine/provenance.json says 14"),
        (("--trainid_input",), r"^`trainid_input` 19: .*mine/provenance.json says 14 classes \(clusters\)"),
    ],
)
def test_main__another_number_than_the_folder_says(
    ready_root: Any, flags: tuple[str, ...], message: str
) -> None:
    where = clusters(ready_root, "mine", 14)
    with pytest.raises(UserError, match=message):
        run(ready_root, *where, *flags)
    assert not (ready_root.path / "cups").exists()


def test_main__nobody_tells_the_number_of_classes(ready_root: Any) -> None:
    where = clusters(ready_root, "mine", 14)
    (ready_root.path / "mine" / "provenance.json").unlink()
    for flags in (where, ("--trainid_input", "--num_semantic_classes", "19")):
        with pytest.raises(UserError, match=r"^`trainid_input`: give either it or `num_semantic_classes`"):
            run(ready_root, *flags)


def test_main__a_folder_of_an_older_version_resumes(ready_root: Any) -> None:
    split = ready_root.path / "split.json"
    split.write_text(json.dumps({"things": [13], "stuffs": [0, 2]}))
    run(ready_root, "--trainid_input", "--split_json", str(split))
    path, before = ready_root.path / "cups" / "provenance.json", modified(ready_root)
    content = json.loads(path.read_text())
    assert str(split) in [entry["path"] for entry in content["inputs"]]
    content.pop("labels")
    # What was recorded then: every flag, the file of the split too.
    content["arguments"] |= {"split_json": str(split), "seed": 0, "device": "auto", "show": 0}
    assert content["arguments"]["thing_classes"] == [13]
    path.write_text(json.dumps(content))
    run(ready_root, "--trainid_input", "--split_json", str(split))
    assert modified(ready_root) == before
    split.write_text(json.dumps({"things": [2], "stuffs": [0, 13]}))
    with pytest.raises(UserError, match="`thing_classes`"):
        run(ready_root, "--trainid_input", "--split_json", str(split))


def _label_clip(root: Path, clip: str, shade: int) -> None:
    """Write two frames `000001` and `000002` of a clip with labels that tell clip and number."""
    for number in (1, 2):
        name = f"{clip}/{number:06d}.png"
        grey = np.random.default_rng(shade + number).integers(0, 255, (16, 32, 3), dtype=np.uint8)
        write_png(root / "video" / name, grey)
        semantic = np.full((16, 32), shade + number, np.uint8)
        semantic[8:, 8:16] = 13
        write_png(root / "labels" / "pseudo_semantic_mapped_k300" / name, semantic)
        write_png(root / "labels" / "pseudo_instance_own" / name, (semantic == 13).astype(np.uint16))


def _convert_clips(root: Path, *more: str) -> int:
    inputs = ("--image_dir", root / "video", "--output_root", root / "labels", "--instance_subdir")
    known = ("pseudo_instance_own", "--trainid_input", "--output_dir", root / "cups")
    return main([str(word) for word in (*inputs, *known, *more)])


def test_main__frames_of_equal_names_in_two_clips_keep_their_labels(tmp_path: Path) -> None:
    _label_clip(tmp_path, "clip1", 0)
    assert _convert_clips(tmp_path) == 0
    _label_clip(tmp_path, "clip2", 5)  # comes later
    assert _convert_clips(tmp_path) == 0
    data = PseudoLabelDataset(tmp_path / "video", tmp_path / "cups", 1.0, (16, 32))
    assert data.stems == [f"clip{clip}%2F00000{number}" for clip in (1, 2) for number in (1, 2)]
    for stem, shade in zip(data.stems, (1, 2, 6, 7), strict=True):
        image = data.image_path(stem)
        assert image == tmp_path / "video" / f"clip{1 if shade < 5 else 2}" / f"{stem[-6:]}.png"
        assert read_ids(tmp_path / "cups" / f"{stem}_leftImg8bit_semantic.png")[0, 0] == shade
    # One clip alone, or a folder above: the end of the name, and where the labels were made, decide.
    above = PseudoLabelDataset(tmp_path, tmp_path / "cups", 1.0, (16, 32))
    assert above.image_path("clip2%2F000001") == tmp_path / "video" / "clip2" / "000001.png"


def test_main__labels_named_by_bare_stems_are_not_added_to(tmp_path: Path) -> None:
    _label_clip(tmp_path, "clip1", 0)
    _convert_clips(tmp_path)
    old = tmp_path / "cups" / "000001_leftImg8bit_semantic.png"
    (tmp_path / "cups" / "clip1%2F000001_leftImg8bit_semantic.png").rename(old)
    with pytest.raises(UserError, match="named without its folder, by an earlier version; add `overwrite`"):
        _convert_clips(tmp_path)
    _convert_clips(tmp_path, "--overwrite")
    assert not old.exists() and len(list((tmp_path / "cups").glob("*.png"))) == 4


def test_main__labels_do_not_go_into_the_images(tmp_path: Path) -> None:
    _label_clip(tmp_path, "clip1", 0)
    with pytest.raises(UserError, match=r"lies inside the images .*; give `output_dir` a folder outside"):
        _convert_clips(tmp_path, "--output_dir", str(tmp_path / "video" / "cups"))
