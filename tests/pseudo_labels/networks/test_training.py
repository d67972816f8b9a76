"""The shared training loop: resume, refusals, weights files."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from cups.errors import Stopped, UserError
from cups.io.files import write_json
from cups.io.png import write_png
from cups.structures import Draw
from cups.training.processes import PRECISIONS
from pseudo_labels.networks.training import Fit, train
from pseudo_labels.networks.weight_files import load_weights, save_weights
from pseudo_labels.settings.training import TRAINING_PRECISIONS, Training
from pseudo_labels.steps.frames import FrameSource
from pseudo_labels.steps.options import RunOptions

SETTINGS = Training(steps=12, batch_size=2, lr=0.1, device="cpu", save_every=3, precision="32")


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

    def __init__(
        self,
        settings: Training = SETTINGS,
        die_at: int = -1,
        explode_at: int = -1,
        signal_at: tuple[int, int] = (-1, 0),
    ) -> None:
        super().__init__(settings)
        torch.manual_seed(settings.seed)
        self.slope = nn.Linear(1, 1)
        self.die_at, self.explode_at, self.signal_at = die_at, explode_at, signal_at

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.global_step == self.die_at:
            raise KeyboardInterrupt
        if self.global_step == self.signal_at[0]:
            os.kill(os.getpid(), self.signal_at[1])
        error = F.mse_loss(self.slope(F.dropout(batch["x"], 0.1)), batch["y"])
        if self.global_step == self.explode_at:
            error = error / 0.0
        return {"error": error}

    def learning_rate_factor(self, step: int) -> float:
        return 0.9**step


def _run(fit: Line, folder: Path, overwrite: bool = False, count: int = 7) -> Tensor:
    images = folder.parent / "images"
    for number in range(count):
        write_png(images / f"{number}.png", np.zeros((2, 2), np.uint8))
    source = FrameSource(image_dir=images)
    train(fit, Points(), source, RunOptions(overwrite=overwrite), folder, script="test")
    return torch.cat([parameter.detach().flatten() for parameter in fit.parameters()])


def test_train__resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole = _run(Line(), tmp_path / "whole")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _run(Line(die_at=8), tmp_path / "killed")
    fresh = Line()
    resumed = _run(fresh, tmp_path / "killed")
    assert torch.equal(whole, resumed)
    assert fresh.trainer.global_step == 12
    provenance = json.loads((tmp_path / "killed" / "provenance.json").read_text())
    assert provenance["uses_ground_truth"] is False and provenance["script"] == "test"


EARLY = 1 + int(np.random.default_rng().integers(4))
"""A step at which the run is stopped; `save_every` alone would have saved nothing, or an earlier one."""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_train__stopped_by_a_signal_goes_on_at_that_step(tmp_path: Path, number: int, code: int) -> None:
    """Nothing was on disk before 1000 steps were done."""
    whole = _run(Line(), tmp_path / "whole")
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=rf"^stopped at step {EARLY + 1}; the same command goes on$") as stopped:
        _run(Line(signal_at=(EARLY, number)), tmp_path / "stopped")
    assert stopped.value.code == code and signal.getsignal(number) == before
    last = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == EARLY + 1
    assert torch.equal(_run(Line(), tmp_path / "stopped"), whole)


def test_train__killed_by_signal_9_goes_on_where_the_clock_saved(tmp_path: Path) -> None:
    whole = _run(Line(), tmp_path / "whole")
    each = replace(SETTINGS, save_minutes=0.0, save_every=1000)
    arguments = (Line(each, signal_at=(EARLY, signal.SIGKILL)), tmp_path / "killed")
    process = multiprocessing.get_context("fork").Process(target=_run, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    checkpoints = tmp_path / "killed" / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} <= {"last.ckpt", "previous.ckpt"}
    assert torch.load(checkpoints / "last.ckpt", weights_only=True)["global_step"] == EARLY
    assert torch.equal(_run(Line(each), tmp_path / "killed"), whole)
    assert [path.name for path in checkpoints.iterdir()] == ["last.ckpt"]


def test_train__a_run_that_an_earlier_version_began_goes_on(tmp_path: Path) -> None:
    """It kept the newest checkpoint under its own name, and `last.ckpt` as a link to it."""
    whole = _run(Line(), tmp_path / "whole")
    with pytest.raises(Stopped):
        _run(Line(signal_at=(EARLY, signal.SIGTERM)), tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    named = last.rename(last.with_name(f"ups_checkpoint_step={EARLY + 1:06d}.ckpt"))
    last.symlink_to(named.name)
    assert torch.equal(_run(Line(), tmp_path / "run"), whole)
    assert not last.is_symlink() and not named.exists()


def test_train__finished_run_only_loads(tmp_path: Path) -> None:
    whole = _run(Line(), tmp_path / "run")
    again = Line(die_at=0)
    assert torch.equal(_run(again, tmp_path / "run"), whole)


def test_train__learns(tmp_path: Path) -> None:
    fit = Line(replace(SETTINGS, steps=60))
    fit.learning_rate_factor = lambda step: 1.0  # type: ignore[method-assign]
    points = [Points()[Draw(frame, frame)] for frame in range(7)]
    before = sum(((fit.slope(point["x"]) - point["y"]) ** 2).item() for point in points)
    _run(fit, tmp_path / "run")
    after = sum(((fit.slope(point["x"]) - point["y"]) ** 2).item() for point in points)
    assert after < 0.2 * before


def test_train__other_settings_are_refused(tmp_path: Path) -> None:
    _run(Line(), tmp_path / "run")
    other = replace(SETTINGS, lr=0.2)
    with pytest.raises(UserError, match=r"made with `lr` 0\.1"):
        _run(Line(other), tmp_path / "run")
    _run(Line(other), tmp_path / "run", overwrite=True)
    assert len(list((tmp_path / "run" / "csv").iterdir())) == 1


def test_train__what_does_not_decide_may_change(tmp_path: Path) -> None:
    """Another device or other loader processes go on with a run; its place and its length do not."""
    _run(Line(), tmp_path / "run")
    _run(Line(replace(SETTINGS, device="auto", num_workers=1)), tmp_path / "run")
    for name, value in (("steps", 13), ("seed", 1), ("log_every", 5), ("checkpoint_dir", tmp_path)):
        with pytest.raises(UserError, match=rf"made with `{name}`"):
            _run(Line(replace(SETTINGS, **{name: value})), tmp_path / "run")


def test_train__a_folder_of_version_0_1_goes_on(tmp_path: Path) -> None:
    """Its provenance holds flags that trainings never read, and all that say where and how fast."""
    _run(Line(), tmp_path / "run")
    path = tmp_path / "run" / "provenance.json"
    content = json.loads(path.read_text())
    dead = {"skip_bad": False, "show": 0, "overwrite": True, "num_workers": 8, "device": "cuda"}
    content["arguments"] = {**content["arguments"], **dead, "output_root": None}
    write_json(path, content)
    again = Line(die_at=0)
    _run(again, tmp_path / "run")
    assert again.trainer.global_step == 12
    content["arguments"]["clip"] = 1.0
    write_json(path, content)
    with pytest.raises(UserError, match=r"made with `clip` 1\.0"):
        _run(Line(), tmp_path / "run")


def test_train__infinite_loss_stops(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="step 2 is not finite"):
        _run(Line(explode_at=2), tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "value"), [*itertools.product(("steps", "batch_size", "save_every"), (0,)), ("lr", -1.0)]
)
def test_training__impossible_settings(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"`{name}` {value}: must be"):
        replace(SETTINGS, **{name: value})


def test_training__names_every_precision() -> None:
    assert sorted(TRAINING_PRECISIONS) == sorted(("auto", *PRECISIONS))


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


def test_train__other_images_are_refused_and_keep_their_provenance(tmp_path: Path) -> None:
    """A trial on one image was taken for the training on all, and its provenance rewritten."""
    _run(Line(), tmp_path / "run", count=1)
    before = (tmp_path / "run" / "provenance.json").read_text()
    with pytest.raises(UserError, match="was trained on 1 image, this run has 7; add `overwrite`"):
        _run(Line(), tmp_path / "run")
    assert (tmp_path / "run" / "provenance.json").read_text() == before
    _run(Line(), tmp_path / "run", overwrite=True)


def test_train__overwrite_removes_the_weights_of_the_old_run(tmp_path: Path) -> None:
    _run(Line(), tmp_path / "run")
    save_weights(tmp_path / "run" / "net.pth", {}, {})
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _run(Line(die_at=2), tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run" / "net.pth").exists()
