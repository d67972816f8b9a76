"""The shared training loop: resume, refusals, weights files."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from cups.errors import UserError
from cups.structures import Draw
from pseudo_labels.networks.training import Fit, add_training_arguments, load_weights, save_weights, train
from pseudo_labels.steps.step import make_parser


class Points(Dataset[dict[str, Tensor]]):
    """Noisy points of the line y = 3 x; the draw's number seeds the noise."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        noise = np.random.default_rng((0, draw.number)).normal(scale=0.01)
        x = torch.tensor([draw.frame / 7.0])
        return {"x": x, "y": 3 * x + float(noise)}


class Line(Fit):
    """A slope with dropout, so that torch's own draws matter; can die or explode at a step."""

    def __init__(self, args: argparse.Namespace, die_at: int = -1, explode_at: int = -1) -> None:
        super().__init__(args)
        torch.manual_seed(args.seed)
        self.slope = nn.Linear(1, 1)
        self.die_at, self.explode_at = die_at, explode_at

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.global_step == self.die_at:
            raise KeyboardInterrupt
        error = F.mse_loss(self.slope(F.dropout(batch["x"], 0.1)), batch["y"])
        if self.global_step == self.explode_at:
            error = error / 0.0
        return {"error": error}

    def learning_rate_factor(self, step: int) -> float:
        return 0.9**step


@pytest.fixture
def arguments(tmp_path: Path) -> Callable[..., argparse.Namespace]:
    def parse(*extra: str) -> argparse.Namespace:
        parser = make_parser("test")
        add_training_arguments(parser, steps=12, batch_size=2, lr=0.1)
        args = ["--image_dir", str(tmp_path), "--device", "cpu", "--save_every", "3", "--precision", "32"]
        return parser.parse_args([*args, *extra])

    return parse


def _run(fit: Line, args: argparse.Namespace, folder: Path) -> Tensor:
    train(fit, Points(), args, folder, script="test")
    return torch.cat([parameter.detach().flatten() for parameter in fit.parameters()])


def test_train__resumed_equals_uninterrupted(
    arguments: Callable[..., argparse.Namespace], tmp_path: Path
) -> None:
    args = arguments()
    whole = _run(Line(args), args, tmp_path / "whole")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _run(Line(args, die_at=8), args, tmp_path / "killed")
    fresh = Line(args)
    resumed = _run(fresh, args, tmp_path / "killed")
    assert torch.equal(whole, resumed)
    assert fresh.trainer.global_step == 12
    provenance = json.loads((tmp_path / "killed" / "provenance.json").read_text())
    assert provenance["uses_ground_truth"] is False and provenance["script"] == "test"


def test_train__finished_run_only_loads(arguments: Callable[..., argparse.Namespace], tmp_path: Path) -> None:
    args = arguments()
    whole = _run(Line(args), args, tmp_path / "run")
    again = Line(args, die_at=0)
    assert torch.equal(_run(again, args, tmp_path / "run"), whole)


def test_train__learns(arguments: Callable[..., argparse.Namespace], tmp_path: Path) -> None:
    args = arguments("--steps", "60")
    fit = Line(args)
    fit.learning_rate_factor = lambda step: 1.0  # type: ignore[method-assign]
    points = [Points()[Draw(frame, frame)] for frame in range(7)]
    before = sum(((fit.slope(point["x"]) - point["y"]) ** 2).item() for point in points)
    _run(fit, args, tmp_path / "run")
    after = sum(((fit.slope(point["x"]) - point["y"]) ** 2).item() for point in points)
    assert after < 0.2 * before


def test_train__other_settings_are_refused(
    arguments: Callable[..., argparse.Namespace], tmp_path: Path
) -> None:
    args = arguments()
    _run(Line(args), args, tmp_path / "run")
    other = arguments("--lr", "0.2")
    with pytest.raises(UserError, match=r"made with --lr 0\.1"):
        _run(Line(other), other, tmp_path / "run")
    over = arguments("--lr", "0.2", "--overwrite")
    _run(Line(over), over, tmp_path / "run")
    assert len(list((tmp_path / "run" / "csv").iterdir())) == 1


def test_train__infinite_loss_stops(arguments: Callable[..., argparse.Namespace], tmp_path: Path) -> None:
    args = arguments()
    with pytest.raises(UserError, match="step 2 is not finite"):
        _run(Line(args, explode_at=2), args, tmp_path / "run")


@pytest.mark.parametrize(
    "extra", list(itertools.product(("--steps", "--batch_size", "--save_every"), ("0",))) + [("--lr", "-1")]
)
def test_train__impossible_arguments(
    arguments: Callable[..., argparse.Namespace], tmp_path: Path, extra: tuple[str, str]
) -> None:
    args = arguments(*extra)
    with pytest.raises(UserError, match=extra[0]):
        _run(Line(args), args, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights__round_trip_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    save_weights(path, {"a": torch.arange(3)}, {"dim": 4, "names": ["x"]})
    state, settings = load_weights(path)
    assert state["a"].tolist() == [0, 1, 2] and settings == {"dim": 4, "names": ["x"]}
    with pytest.raises(UserError, match="no such file"):
        load_weights(tmp_path / "missing.pth")
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="not weights of a Stage-1 network"):
        load_weights(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"net\.pth: not a checkpoint"):
        load_weights(path)
