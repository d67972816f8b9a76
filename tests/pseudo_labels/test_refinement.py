"""Training of the refinement networks and their use, on tiny folders with the weight-free backbone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from cups.errors import UserError
from cups.io.files import write_npy
from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import read_provenance, write_provenance
from cups.structures import Draw
from pseudo_labels import generate_refined_semantics, train_joint_refine_net, train_refine_net
from pseudo_labels.extract_dinov2_features import main as extract
from pseudo_labels.inputs.refine_inputs import (
    RefineFolders,
    RefinementFrames,
    feature_statistics,
    working_size,
)
from pseudo_labels.networks.joint_refine_training import balanced_cross_entropy, outlines
from pseudo_labels.networks.refine_training import MASKED, RefineFit, corrupt, load_network, number_of_classes
from pseudo_labels.networks.training import save_weights
from pseudo_labels.steps.step import Folder, Frame

MAPPED = "pseudo_semantic_mapped_k300"


@pytest.fixture
def root(tiny_root: Any) -> Any:
    """The tiny root with depth, texton features and pseudo-instances (the true ones)."""
    extract(["--cityscapes_root", str(tiny_root.path), "--backbone", "texton", "--num_workers", "0"])
    for stem in tiny_root.stems:
        disparity = read_ids(tiny_root.file("disparity", f"{stem}_disparity.png")).astype(np.float32)
        write_npy(tiny_root.file("depth_spidepth", f"{stem}.npy"), 8000 / disparity)
        ids = read_ids(tiny_root.file("gtFine", f"{stem}_gtFine_instanceIds.png")).astype(np.int64)
        path = tiny_root.file("pseudo_instance_depth_guided", f"{stem}.png")
        write_png(path, np.where(ids >= 26000, ids - 25999, 0).astype(np.uint16))
    for name in ("pseudo_instance_depth_guided", "depth_spidepth"):
        write_provenance(tiny_root.path / name, script="test", arguments={})
    shutil.rmtree(tiny_root.path / "gtFine")
    return tiny_root


def train(root: Any, *more: str, joint: bool = False) -> int:
    module = train_joint_refine_net if joint else train_refine_net
    fixed = "--features_subdir features_texton --crop 32 --channels 8 --batch_size 2 --device cpu"
    names = ["--cityscapes_root", str(root.path), "--semantic_subdir", MAPPED]
    return module.main([*names, *fixed.split(), "--precision", "32", "--steps", "4", *more])


def generate(root: Any, *more: str, joint: bool = False) -> int:
    name = "joint_refine_net" if joint else "refine_net"
    checkpoint = root.path / name / f"{name}.pth"
    names = ["--cityscapes_root", str(root.path), "--checkpoint", str(checkpoint), "--device", "cpu"]
    return generate_refined_semantics.main([*names, *more])


def weights(folder: Path) -> torch.Tensor:
    network, _ = load_network(folder / "refine_net.pth")
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_main__removes_noise_without_labels(root: Any) -> None:
    """A tenth of all pixels carries a random class; training sees nothing better."""
    rng = np.random.default_rng(0)
    truth = {}
    for stem in root.stems:
        path = root.file(MAPPED, f"{stem}.png")
        truth[stem] = read_ids(path).copy()
        noisy = truth[stem].copy()
        wrong = rng.random(noisy.shape) < 0.1
        noisy[wrong] = rng.choice([0, 2, 13], size=int(wrong.sum()))
        write_png(path, noisy)
    train(root, "--steps", "150", "--lr", "0.005")
    generate(root, "--flip")
    for stem, labels in truth.items():
        before, after = (
            (read_ids(root.file(name, f"{stem}.png")) == labels).mean()
            for name in (MAPPED, "pseudo_semantic_refined_mapped_k300")
        )
        assert before < 0.95 < 0.98 < after


@pytest.mark.parametrize("joint", [False, True])
def test_main__end_to_end(root: Any, joint: bool) -> None:
    train(root, joint=joint)
    assert generate(root, "--show", "1", "--batch_size", "2", joint=joint) == 0
    output = root.path / "pseudo_semantic_refined_mapped_k300"
    for stem in root.stems:
        refined = read_ids(root.file(output.name, f"{stem}.png"))
        given = read_ids(root.file(MAPPED, f"{stem}.png"))
        assert refined.dtype == given.dtype and refined.shape == given.shape
        assert refined.max() < 19
    assert (output / "contact_sheet.png").is_file()
    provenance = read_provenance(output)
    assert provenance is not None and provenance["uses_ground_truth"] is False
    assert json.loads((output / "thing_stuff_split.json").read_text())["things"] == list(range(11, 19))


def test_main__weights_of_unknown_origin_make_unknown_labels(root: Any, tmp_path: Path) -> None:
    """Of the weights' folder a plain one was made, which counts as raw data: the labels were "label-free"."""
    train(root)
    folder = tmp_path / "copied"
    folder.mkdir()
    shutil.copy(root.path / "refine_net" / "refine_net.pth", folder)
    generate(root, "--checkpoint", str(folder / "refine_net.pth"))
    provenance = read_provenance(root.path / "pseudo_semantic_refined_mapped_k300")
    assert provenance is not None and provenance["uses_ground_truth"] is None


def test_main__mixed_sizes_train_if_their_crops_agree(root: Any) -> None:
    """A frame of half the height gave crops that no batch could hold: an error deep in the loader."""
    stem = root.stems[1]
    image = read_image(root.file("leftImg8bit", f"{stem}_leftImg8bit.png"))
    for rows, crop, fits in ((64, "32", True), (24, "16", True), (24, "32", False)):
        write_png(root.file("leftImg8bit", f"{stem}_leftImg8bit.png"), image[:rows, :96].copy())
        write_png(root.file(MAPPED, f"{stem}.png"), np.zeros((rows, 96), np.uint8))
        write_npy(root.file("depth_spidepth", f"{stem}.npy"), np.ones((rows, 96), np.float32))
        extract(["--cityscapes_root", str(root.path), "--backbone", "texton", "--overwrite"])
        if fits:
            assert train(root, "--crop", crop, "--overwrite") == 0
        else:
            with pytest.raises(UserError, match=f"{stem}.*24x32 pixels.*give a smaller --crop"):
                train(root, "--crop", crop, "--overwrite")


def test_main__a_killed_training_goes_on_where_it_was(root: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train(root, "--checkpoint_dir", str(root.path / "whole"), "--save_every", "2")
    losses = RefineFit.losses

    def dying(fit: RefineFit, batch: Any) -> Any:
        if fit.global_step == 3:
            raise KeyboardInterrupt
        return losses(fit, batch)

    killed = ("--checkpoint_dir", str(root.path / "killed"), "--save_every", "2")
    with monkeypatch.context() as patch:
        patch.setattr(RefineFit, "losses", dying)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(root, *killed)
    assert not (root.path / "killed" / "refine_net.pth").exists()
    train(root, *killed)
    assert torch.equal(weights(root.path / "whole"), weights(root.path / "killed"))
    with pytest.raises(UserError, match=r"--channels 8"):
        train(root, *killed, "--channels", "4")


def test_main__a_finished_training_run_again_writes_the_same_bytes(root: Any) -> None:
    train(root)
    path = root.path / "refine_net" / "refine_net.pth"
    first = path.read_bytes()
    train(root)
    assert path.read_bytes() == first


def test_main__a_new_checkpoint_redoes_old_outputs(root: Any) -> None:
    train(root)
    generate(root)
    path = root.file("pseudo_semantic_refined_mapped_k300", f"{root.stems[0]}.png")
    first = path.stat().st_mtime_ns
    generate(root)
    assert path.stat().st_mtime_ns == first
    (root.path / "refine_net" / "refine_net.pth").touch()
    generate(root)
    assert path.stat().st_mtime_ns > first


def test_main__semantics_smaller_than_images_keep_their_size(root: Any) -> None:
    for stem in root.stems:
        path = root.file(MAPPED, f"{stem}.png")
        write_png(path, cv2.resize(read_ids(path), (96, 48), interpolation=cv2.INTER_NEAREST))
    train(root, "--height", "40", "--steps", "1")
    generate(root)
    refined = read_ids(root.file("pseudo_semantic_refined_mapped_k300", f"{root.stems[0]}.png"))
    assert refined.shape == (48, 96)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--features_subdir", "features_none"), r"features_none: no such folder; run extract_dinov2"),
        (("--depth_subdir", "depth_none"), r"depth_none: no such folder; run generate_depth"),
        (("--semantic_subdir", "pseudo_semantic_none"), r"pseudo_semantic_none: no such folder"),
        (("--crop", "0"), r"--crop 0"),
        (("--channels", "0"), r"--channels 0"),
        (("--smoothness_weight", "-1"), r"--smoothness_weight -1"),
        (("--num_semantic_classes", "3"), r"holds class 13, but there are 3"),
        (("--num_semantic_classes", "0"), r"--num_semantic_classes 0"),
    ],
)
def test_train__bad_input(root: Any, extra: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(root, *extra)


def test_train_joint__needs_instances(root: Any) -> None:
    with pytest.raises(UserError, match=r"pseudo_instance_none: no such folder"):
        train(root, "--instance_subdir", "pseudo_instance_none", joint=True)
    path = root.file("pseudo_instance_depth_guided", f"{root.stems[0]}.png")
    write_png(path, np.zeros((64, 100), np.uint16))
    with pytest.raises(UserError, match=r"64x100 has not the shape"):
        train(root, joint=True)


def test_train__features_of_two_networks_are_refused(root: Any) -> None:
    path = root.file("features_texton", f"{root.stems[1]}.npy")
    write_npy(path, np.zeros((16, 32, 7), np.float16))
    with pytest.raises(UserError, match=r"7 channels, others have 39"):
        train(root)


def test_generate__bad_input(root: Any, tmp_path: Path) -> None:
    train(root, "--steps", "1")
    with pytest.raises(UserError, match=r"nothing.pth: no such file"):
        generate(root, "--checkpoint", str(tmp_path / "nothing.pth"))
    save_weights(tmp_path / "other.pth", {"a": torch.zeros(1)}, {"network": "CSCMRefineNet"})
    with pytest.raises(UserError, match=r"other.pth: not a refinement network"):
        generate(root, "--checkpoint", str(tmp_path / "other.pth"))
    for stem in root.stems:
        write_npy(root.file("features_other", f"{stem}.npy"), np.zeros((16, 32, 7), np.float16))
    with pytest.raises(UserError, match=r"7 channels, the network was trained with 39"):
        generate(root, "--features_subdir", "features_other")


class Constant(RefineFolders):
    """Folders whose only frame is counted: every map holds the number of its own column."""

    def read(self, frame: Frame, num_classes: int) -> Any:
        from pseudo_labels.inputs.refine_inputs import RefineInput

        columns = torch.arange(48).expand(24, 48)
        pixels = columns.float()[None]
        # A token covers 4 x 4 pixels and holds its first column.
        return RefineInput(pixels[:, ::4, ::4], pixels, pixels.expand(3, -1, -1), columns, (24, 48))


def test_refinement_frames__crops_stay_aligned_and_mirror_together() -> None:
    nowhere = Folder(Path(), "none", ".npy")
    data = RefinementFrames([Frame("a", Path(), Path())], Constant(nowhere, nowhere, nowhere, 24), 48, 13, 0)
    mirrored, starts = set(), set()
    for number in range(20):
        item = data[Draw(0, number)]
        assert item["features"].shape == (1, 3, 3) and item["labels"].shape == (12, 12)
        row = item["labels"][0]
        mirrored.add(bool(row[0] > row[1]))
        starts.add(int(row.min()))
        tokens = item["features"][0, 0].repeat_interleave(4)
        assert torch.equal(tokens, (row // 4 * 4).float())
        assert torch.equal(item["image"][0, 0], row.float())
        assert torch.equal(item["log_depth"][0, 0], row.float())
    assert mirrored == {False, True} and len(starts) > 3
    assert torch.equal(data[Draw(0, 5)]["image"], data[Draw(0, 5)]["image"])


def test_corrupt__hides_and_replaces_squares() -> None:
    torch.manual_seed(0)
    labels = (torch.arange(64 * 64).view(1, 64, 64) % 7).expand(8, -1, -1)
    hidden, moved = [], []
    for _ in range(30):
        changed = corrupt(labels)
        assert changed.shape == labels.shape and changed.min() >= -1 and changed.max() < 7
        hidden.append((changed < 0).float().mean().item())
        moved.append(((changed != labels) & (changed >= 0)).float().mean().item())
    assert np.mean(hidden) == pytest.approx(MASKED, abs=0.05)
    assert 0.05 < np.mean(moved) < 0.11  # of those replaced, one in seven has the same label


def test_feature_statistics__random_tokens_lie_one_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = Folder(tmp_path, "features", ".npy")
    frames = [Frame(str(number), Path(), Path()) for number in range(3)]
    mixing = rng.normal(size=(6, 6))
    tokens = 5 + rng.normal(size=(3, 20, 30, 6)) @ mixing
    for frame, values in zip(frames, tokens, strict=True):
        write_npy(folder.path(frame), values.astype(np.float32))
    statistics = feature_statistics(frames, folder)
    flat = tokens.reshape(-1, 6)
    np.testing.assert_allclose(statistics.mean, flat.mean(0), rtol=1e-4)
    np.testing.assert_allclose(statistics.std, flat.std(0), rtol=1e-4)
    coordinates = (flat - flat.mean(0)) / flat.std(0) @ statistics.basis.numpy().T
    distance = np.square(coordinates[:900] - coordinates[900:]).sum(1).mean()
    assert distance == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(
    ("name", "classes"),
    [("pseudo_semantic_cause27", 27), ("pseudo_semantic_raw_k120", 120), (MAPPED, 19), ("own", 14)],
)
def test_number_of_classes(tiny_root: Any, name: str, classes: int) -> None:
    (tiny_root.path / MAPPED).rename(tiny_root.path / name)
    frames = [Frame(stem, Path("train/aachen"), Path()) for stem in tiny_root.stems]
    assert number_of_classes(Folder(tiny_root.path, name, ".png"), frames, None) == classes
    assert number_of_classes(Folder(tiny_root.path, name, ".png"), frames, 30) == 30


def test_working_size() -> None:
    assert working_size((1024, 2048), 512) == (512, 1024)
    assert working_size((192, 384), 512) == (192, 384)


def test_outlines__both_sides_of_a_border() -> None:
    ids = torch.tensor([[1, 1, 2, 2]])
    assert outlines(ids).tolist() == [[False, True, True, False]]
    assert outlines(ids.T).T.tolist() == [[False, True, True, False]]


def test_balanced_cross_entropy__both_sides_weigh_the_same() -> None:
    target = torch.zeros(1, 1, 10)
    target[..., 0] = 1
    # At logit 0 each pixel costs ln 2: 0.1 of them weighs 0.9, 0.9 of them weigh 0.1.
    value: Callable[..., torch.Tensor] = balanced_cross_entropy
    assert value(torch.zeros(1, 1, 10), target).item() == pytest.approx(0.18 * np.log(2))
