"""Training of DINOSAUR on a tiny root with the weight-free backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cups.errors import UserError
from cups.io.files import write_npy
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


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--backbone", "dinov3_vitb16"), r"features_dinov3_vitb16: no such folder; extract the features"),
        (("--num_slots", "0"), r"`num_slots` 0"),
        (("--crop", "0.5", "1.5"), r"`crop` 0.5 1.5"),
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
