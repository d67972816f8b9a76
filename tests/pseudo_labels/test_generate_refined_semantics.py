"""Refined semantics, on tiny folders with the weight-free backbone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from cups.errors import UserError
from cups.io.files import write_npy
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance
from pseudo_labels.networks.weight_files import save_weights

MAPPED = "pseudo_semantic_mapped_k300"


def test_main__removes_noise_without_labels(refinement: Any) -> None:
    """A tenth of all pixels carries a random class; training sees nothing better."""
    rng = np.random.default_rng(0)
    truth = {}
    for stem in refinement.root.stems:
        path = refinement.root.file(MAPPED, f"{stem}.png")
        truth[stem] = read_ids(path).copy()
        noisy = truth[stem].copy()
        wrong = rng.random(noisy.shape) < 0.1
        noisy[wrong] = rng.choice([0, 2, 13], size=int(wrong.sum()))
        write_png(path, noisy)
    refinement.train("--steps", "150", "--lr", "0.005")
    refinement.generate("--flip")
    for stem, labels in truth.items():
        before, after = (
            (read_ids(refinement.root.file(name, f"{stem}.png")) == labels).mean()
            for name in (MAPPED, "pseudo_semantic_refined_mapped_k300")
        )
        assert before < 0.95 < 0.98 < after


@pytest.mark.parametrize("joint", [False, True])
def test_main__end_to_end(refinement: Any, joint: bool) -> None:
    refinement.train(joint=joint)
    assert refinement.generate("--show", "1", "--batch_size", "2", joint=joint) == 0
    output = refinement.root.path / "pseudo_semantic_refined_mapped_k300"
    for stem in refinement.root.stems:
        refined = read_ids(refinement.root.file(output.name, f"{stem}.png"))
        given = read_ids(refinement.root.file(MAPPED, f"{stem}.png"))
        assert refined.dtype == given.dtype and refined.shape == given.shape
        assert refined.max() < 19
    assert (output / "contact_sheet.png").is_file()
    provenance = read_provenance(output)
    assert provenance is not None and provenance["uses_ground_truth"] is False
    assert provenance["labels"] == {"kind": "trainId", "num_classes": 19, "void": 255}
    assert json.loads((output / "thing_stuff_split.json").read_text())["things"] == list(range(11, 19))


def test_main__no_label_is_read(refinement: Any) -> None:
    """Refined labels were a vote of the labels; now the images of another city need none."""
    refinement.train()
    refinement.generate("--name", "with")
    shutil.rmtree(refinement.root.path / MAPPED)
    refinement.generate("--name", "without")
    first, second = (
        read_ids(refinement.root.file(f"pseudo_semantic_refined_{name}", f"{refinement.root.stems[0]}.png"))
        for name in ("with", "without")
    )
    assert np.array_equal(first, second)
    provenance = read_provenance(refinement.root.path / "refine_net")
    assert provenance is not None and MAPPED in [Path(one["path"]).name for one in provenance["inputs"]]


def test_main__a_joint_network_writes_instances_inside_things(refinement: Any) -> None:
    refinement.train("--steps", "150", "--lr", "0.005", joint=True)
    refinement.generate("--min_instance_area", "100", joint=True)
    folder = refinement.root.path / "pseudo_instance_joint_refined_mapped_k300"
    assert read_provenance(folder) is not None
    for stem in refinement.root.stems:
        refined = read_ids(refinement.root.file("pseudo_semantic_refined_mapped_k300", f"{stem}.png"))
        ids = read_ids(refinement.root.file(folder.name, f"{stem}.png"))
        assert ids.dtype == np.uint16 and ids.shape == refined.shape
        assert ids.any() and not ids[refined != 13].any()


def test_main__weights_of_unknown_origin_make_unknown_labels(refinement: Any, tmp_path: Path) -> None:
    """Of the weights' folder a plain one was made, which counts as raw data: the labels were "label-free"."""
    refinement.train()
    folder = tmp_path / "copied"
    folder.mkdir()
    shutil.copy(refinement.root.path / "refine_net" / "refine_net.pth", folder)
    refinement.generate("--checkpoint", str(folder / "refine_net.pth"))
    provenance = read_provenance(refinement.root.path / "pseudo_semantic_refined_mapped_k300")
    assert provenance is not None and provenance["uses_ground_truth"] is None


def test_main__a_new_checkpoint_redoes_old_outputs(refinement: Any) -> None:
    refinement.train()
    refinement.generate()
    path = refinement.root.file("pseudo_semantic_refined_mapped_k300", f"{refinement.root.stems[0]}.png")
    first = path.stat().st_mtime_ns
    refinement.generate()
    assert path.stat().st_mtime_ns == first
    (refinement.root.path / "refine_net" / "refine_net.pth").touch()
    refinement.generate()
    assert path.stat().st_mtime_ns > first


def test_main__semantics_smaller_than_images_keep_their_size(refinement: Any) -> None:
    for stem in refinement.root.stems:
        path = refinement.root.file(MAPPED, f"{stem}.png")
        write_png(path, cv2.resize(read_ids(path), (96, 48), interpolation=cv2.INTER_NEAREST))
    refinement.train("--height", "40", "--steps", "1")
    refinement.generate()
    refined = read_ids(
        refinement.root.file("pseudo_semantic_refined_mapped_k300", f"{refinement.root.stems[0]}.png")
    )
    assert refined.shape == (48, 96)


def test_generate__bad_input(refinement: Any, tmp_path: Path) -> None:
    refinement.train("--steps", "1")
    with pytest.raises(UserError, match=r"nothing.pth: no such file"):
        refinement.generate("--checkpoint", str(tmp_path / "nothing.pth"))
    save_weights(tmp_path / "other.pth", {"a": torch.zeros(1)}, {"network": "CSCMRefineNet"})
    with pytest.raises(UserError, match=r"other.pth: not a refinement network"):
        refinement.generate("--checkpoint", str(tmp_path / "other.pth"))
    old = {"network": "CSCMRefineNet", "shape": {"feature_dim": 39, "num_classes": 19, "channels": 8}}
    save_weights(tmp_path / "old.pth", {"trunk.prior.weight": torch.zeros(20, 8)}, old)
    with pytest.raises(UserError, match=r"old\.pth: of an earlier version.*train it again"):
        refinement.generate("--checkpoint", str(tmp_path / "old.pth"))
    for stem in refinement.root.stems:
        write_npy(refinement.root.file("features_other", f"{stem}.npy"), np.zeros((16, 32, 7), np.float16))
    with pytest.raises(UserError, match=r"7 channels, the network was trained with 39"):
        refinement.generate("--features_subdir", "features_other")
