"""Training of CSCMRefineNet on tiny folders with the weight-free backbone."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cups.errors import UserError
from cups.io.files import write_npy
from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import read_provenance
from pseudo_labels.extract_dinov2_features import main as extract
from pseudo_labels.networks.refine_networks import load_network
from pseudo_labels.networks.refine_training import RefineFit
from refs.cause.models import dinov2_vit

MAPPED = "pseudo_semantic_mapped_k300"


def weights(folder: Path) -> torch.Tensor:
    network, _ = load_network(folder / "refine_net.pth")
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_main__mixed_sizes_train_if_their_crops_agree(refinement: Any) -> None:
    """A frame of half the height gave crops that no batch could hold: an error deep in the loader."""
    stem = refinement.root.stems[1]
    image = read_image(refinement.root.file("leftImg8bit", f"{stem}_leftImg8bit.png"))
    for rows, crop, fits in ((64, "32", True), (24, "16", True), (24, "32", False)):
        write_png(refinement.root.file("leftImg8bit", f"{stem}_leftImg8bit.png"), image[:rows, :96].copy())
        write_png(refinement.root.file(MAPPED, f"{stem}.png"), np.zeros((rows, 96), np.uint8))
        write_npy(refinement.root.file("depth_spidepth", f"{stem}.npy"), np.ones((rows, 96), np.float32))
        extract(["--cityscapes_root", str(refinement.root.path), "--backbone", "texton", "--overwrite"])
        if fits:
            assert refinement.train("--crop", crop, "--overwrite") == 0
        else:
            with pytest.raises(UserError, match=f"{stem}.*24x32 pixels.*give a smaller `crop`"):
                refinement.train("--crop", crop, "--overwrite")


def test_main__a_killed_training_goes_on_where_it_was(
    refinement: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    refinement.train("--checkpoint_dir", str(refinement.root.path / "whole"), "--save_every", "2")
    losses = RefineFit.losses

    def dying(fit: RefineFit, batch: Any) -> Any:
        if fit.global_step == 3:
            raise KeyboardInterrupt
        return losses(fit, batch)

    killed = ("--checkpoint_dir", str(refinement.root.path / "killed"), "--save_every", "2")
    with monkeypatch.context() as patch:
        patch.setattr(RefineFit, "losses", dying)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            refinement.train(*killed)
    assert not (refinement.root.path / "killed" / "refine_net.pth").exists()
    refinement.train(*killed)
    assert torch.equal(weights(refinement.root.path / "whole"), weights(refinement.root.path / "killed"))
    with pytest.raises(UserError, match=r"`channels` 8"):
        refinement.train(*killed, "--channels", "4")


def test_main__a_finished_training_run_again_writes_the_same_bytes(refinement: Any) -> None:
    refinement.train()
    path = refinement.root.path / "refine_net" / "refine_net.pth"
    first = path.read_bytes()
    refinement.train()
    assert path.read_bytes() == first


def losses(folder: Path) -> list[float]:
    """Return the logged losses of a training."""
    (log,) = folder.rglob("metrics.csv")
    rows = list(csv.DictReader(log.open()))
    return [float(row["loss"]) for row in rows if row["loss"]]


def test_main__streamed_features_train_like_stored_ones(
    refinement: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the folder nothing is written but the network, and it computes its features again to refine."""
    monkeypatch.setattr("pseudo_labels.settings.feature_choice.network_rows", lambda name: 56)
    path = tmp_path / "vits14.pth"
    torch.manual_seed(0)
    torch.save(dinov2_vit("vits14").state_dict(), path)
    root, logged = refinement.root.path, ("--log_every", "1")
    backbone = ("--backbone", "dinov2_vits14", "--backbone_checkpoint", str(path))
    refinement.train(*backbone, *logged, "--checkpoint_dir", str(root / "streamed"))
    assert not (root / "features_dinov2_vits14").exists()
    provenance = read_provenance(root / "streamed")
    assert provenance is not None and provenance["weights"][0]["name"] == "dinov2_vits14"
    extract(["--cityscapes_root", str(root), *backbone, "--height", "56"])
    refinement.train(*backbone[:2], *logged, "--checkpoint_dir", str(root / "stored"))
    streamed, stored = losses(root / "streamed"), losses(root / "stored")
    assert len(stored) == 4
    np.testing.assert_allclose(streamed, stored, rtol=1e-3)
    whole, difference = weights(root / "stored"), weights(root / "streamed") - weights(root / "stored")
    assert difference.norm() < 0.02 * whole.norm()
    refined = []
    for name in ("stored", "streamed"):
        files = ("--checkpoint", str(root / name / "refine_net.pth"), *backbone[2:])
        refinement.generate(*files, "--name", name)
        file = refinement.root.file(f"pseudo_semantic_refined_{name}", f"{refinement.root.stems[0]}.png")
        refined.append(read_ids(file))
    assert (refined[0] == refined[1]).mean() > 0.95


def test_main__any_number_of_workers_trains_the_same(refinement: Any) -> None:
    for count in ("0", "2"):
        folder = str(refinement.root.path / count)
        refinement.train("--num_workers", count, "--checkpoint_dir", folder)
    assert torch.equal(weights(refinement.root.path / "0"), weights(refinement.root.path / "2"))


def test_main__a_checkpoint_of_version_0_2_is_told_from_a_damaged_one(refinement: Any) -> None:
    """Its networks took labels: the state did not fit, deep in the trainer."""
    refinement.train()
    path = refinement.root.path / "refine_net" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["state_dict"]["network.trunk.prior.weight"] = torch.zeros(20, 8)
    torch.save(content, path)
    with pytest.raises(UserError, match=r"last\.ckpt: of another network.*`overwrite`"):
        refinement.train()
    assert refinement.train("--overwrite") == 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--features_subdir", "features_none"), r"features_none: no such folder; run extract_dinov2"),
        (("--backbone_checkpoint", "none.pth"), r"none.pth: the texton backbone has no weights"),
        (("--depth_subdir", "depth_none"), r"depth_none: no such folder; run generate_depth"),
        (("--semantic_subdir", "pseudo_semantic_none"), r"pseudo_semantic_none: no such folder"),
        (("--crop", "0"), r"`crop` 0"),
        (("--channels", "0"), r"`channels` 0"),
        (("--smoothness_weight", "-1"), r"`smoothness_weight` -1"),
        (("--num_semantic_classes", "3"), r"holds class 13, but there are 3"),
        (("--num_semantic_classes", "0"), r"`num_semantic_classes` 0"),
    ],
)
def test_train__bad_input(refinement: Any, extra: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        refinement.train(*extra)


def test_train__features_of_two_networks_are_refused(refinement: Any) -> None:
    path = refinement.root.file("features_texton", f"{refinement.root.stems[1]}.npy")
    write_npy(path, np.zeros((16, 32, 7), np.float16))
    with pytest.raises(UserError, match=r"7 channels, others have 39"):
        refinement.train()


def test_main__weights_of_a_trial_are_not_taken_for_all(refinement: Any) -> None:
    """It kept the weights of one image and wrote into their provenance that all had been used."""
    folder = refinement.root.path / "refine_net"
    refinement.train("--max_images", "1")
    before, said = weights(folder), (folder / "provenance.json").read_text()
    with pytest.raises(UserError, match="was trained on 1 image, this run has 2; add `overwrite`"):
        refinement.train()
    assert torch.equal(weights(folder), before)
    assert (folder / "provenance.json").read_text() == said
    refinement.train("--overwrite")
    assert not torch.equal(weights(folder), before)


def test_main__features_of_another_size_are_not_taken(refinement: Any) -> None:
    refinement.train()
    again = ["--cityscapes_root", str(refinement.root.path), "--backbone", "texton", "--overwrite"]
    extract([*again, "--height", "32"])
    with pytest.raises(
        UserError, match=r"features_texton: not the features that .*refine_net\.pth was trained"
    ):
        refinement.generate()
    with pytest.raises(UserError, match="other inputs \\(features_texton was made anew since"):
        refinement.train()
