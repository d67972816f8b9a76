"""The CUPS training format: files, statistics, schema."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from cups.data import PseudoLabelDataset
from cups.errors import UserError
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance
from pseudo_labels.convert_to_cups_format import main
from pseudo_labels.generate_depth_guided_instances import main as make_instances
from pseudo_labels.generate_depth_spidepth import main as make_depth


@pytest.fixture
def ready_root(tiny_root: Any) -> Any:
    """A root with depth-guided instances."""
    root = ["--cityscapes_root", str(tiny_root.path)]
    make_depth([*root, "--source", "disparity"])
    make_instances([*root, "--min_area", "20"])
    return tiny_root


def run(root: Any, *more: str) -> int:
    return main(["--cityscapes_root", str(root.path), "--output_dir", str(root.path / "cups"), *more])


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
    path = ready_root.file("pseudo_instance_depth_guided", f"{ready_root.stems[0]}.png")
    write_png(path, read_ids(path)[:, ::2])
    with pytest.raises(UserError, match=rf"{ready_root.stems[0]}.png: size 64x64.*64x128"):
        run(ready_root, "--trainid_input")


def test_main__missing_instances_name_the_step(tiny_root: Any) -> None:
    with pytest.raises(UserError, match="pseudo_instance_depth_guided: no such folder"):
        run(tiny_root, "--trainid_input")


def test_main__empty_image_folder(tiny_root: Any) -> None:
    for path in (tiny_root.path / "leftImg8bit" / "train" / "aachen").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="no images inside"):
        run(tiny_root, "--trainid_input")
