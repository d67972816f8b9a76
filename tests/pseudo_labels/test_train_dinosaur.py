"""Training of DINOSAUR on a tiny root with the weight-free backbone."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cups.errors import UserError
from cups.io.files import write_npy
from cups.io.png import read_ids
from pseudo_labels.networks.dinosaur import load_dinosaur
from pseudo_labels.networks.dinosaur_training import DinosaurFit


def weights(folder: Path) -> torch.Tensor:
    network, _ = load_dinosaur(folder / "dinosaur.pth")
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_train__a_killed_training_goes_on_where_it_was(slots: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slots.train("--checkpoint_dir", str(slots.root.path / "whole"), "--save_every", "2")
    losses = DinosaurFit.losses

    def dying(fit: DinosaurFit, batch: Any) -> Any:
        if fit.global_step == 3:
            raise KeyboardInterrupt
        return losses(fit, batch)

    killed = ("--checkpoint_dir", str(slots.root.path / "killed"), "--save_every", "2")
    with monkeypatch.context() as patch:
        patch.setattr(DinosaurFit, "losses", dying)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            slots.train(*killed)
    assert not (slots.root.path / "killed" / "dinosaur.pth").exists()
    slots.train(*killed)
    assert torch.equal(weights(slots.root.path / "whole"), weights(slots.root.path / "killed"))
    with pytest.raises(UserError, match=r"`num_slots` 4"):
        slots.train(*killed, "--num_slots", "5")


def losses(folder: Path) -> list[float]:
    """Return the logged losses of a training."""
    (log,) = folder.rglob("metrics.csv")
    return [float(row["loss"]) for row in csv.DictReader(log.open()) if row["loss"]]


def test_train__streamed_features_train_like_stored_ones(slots: Any) -> None:
    root, logged = slots.root.path, ("--log_every", "1")
    slots.train(*logged, "--checkpoint_dir", str(root / "stored"))
    shutil.rmtree(root / "features_texton")
    slots.train(*logged, "--checkpoint_dir", str(root / "streamed"))
    stored, streamed = losses(root / "stored"), losses(root / "streamed")
    assert len(stored) == 4
    np.testing.assert_allclose(streamed, stored, rtol=1e-3)
    np.testing.assert_allclose(weights(root / "streamed"), weights(root / "stored"), atol=2e-3)
    slots.generate("--checkpoint", str(root / "streamed" / "dinosaur.pth"))
    assert read_ids(
        slots.root.file("pseudo_instance_dinosaur_mapped_k300", f"{slots.root.stems[0]}.png")
    ).any()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--backbone", "dinov3_vitb16"), r"features_dinov3_vitb16: no such folder, and to compute"),
        (("--num_slots", "0"), r"`num_slots` 0"),
        (("--crop", "0.5", "1.5"), r"`crop` 1.5: must be at most 1"),
        (("--position_grid", "0", "4"), r"`position_grid`"),
        (("--decode_tokens", "-1"), r"`decode_tokens` -1"),
        (("--half_life", "0"), r"`half_life`"),
        (("--lr", "0"), r"`lr` 0"),
    ],
)
def test_train__bad_input(slots: Any, extra: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        slots.train(*extra)


def test_train__another_grid_is_refused(slots: Any) -> None:
    write_npy(
        slots.root.file("features_texton", f"{slots.root.stems[1]}.npy"), np.zeros((16, 30, 39), np.float16)
    )
    with pytest.raises(UserError, match=r"16x30 tokens, the first frame has 16x32"):
        slots.train()
