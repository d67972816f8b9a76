"""What decides a command beside its words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cups.io.checkpoint import load_checkpoint, weights_digest
from pseudo_labels.steps.stage1 import Command
from studies.decided import differences, settings_of, value_of, weights_of


def _weights(path: Path, value: float, **more: object) -> Path:
    torch.save({"state_dict": {"model.w": torch.full((2,), value), "model.b": torch.ones(1)}, **more}, path)
    return path


def test_value_of__the_last_one_wins() -> None:
    assert value_of(("--a", "1", "--b", "2", "--a", "3"), "--a") == "3"
    assert value_of(("--a",), "--a") is None and value_of((), "--a") is None


def test_settings_of__follow_bases_defaults_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, config = tmp_path / "base.yaml", tmp_path / "config.yaml"
    base.write_text("TRAINING: {STEPS: 7, LOG_EVERY_N_STEPS: 3}")
    config.write_text("_BASE_: base.yaml\nDATA: {SCALE: 0.5}")
    words = ("--experiment_config_file", str(config))
    train, score = (settings_of(Command("a", script, words)) for script in ("train.py", "val.py"))
    assert (train["TRAINING.STEPS"], train["DATA.SCALE"], train["TRAINING.BATCH_SIZE"]) == (7, 0.5, 16)
    assert "TRAINING.LOG_EVERY_N_STEPS" not in train and "SYSTEM.NUM_WORKERS" not in train
    assert "TRAINING.STEPS" not in score and score["DATA.SCALE"] == 0.5, "val.py does not read it"
    assert settings_of(Command("a", "cups.data.toy_streets", ("--output", "x"))) == {}
    monkeypatch.setenv("CUPS_OPTS", "TRAINING.STEPS 9")
    now = settings_of(Command("a", "train.py", words))
    assert differences(train, {}, now, {}) == ["TRAINING.STEPS was 7, now 9"]


def test_differences__keys_younger_than_the_record_had_their_default() -> None:
    assert differences({"DATA.SCALE": 1.0}, {}, {"DATA.SCALE": 1.0, "DATA.NUM_CLASSES": 19}, {}) == []
    assert differences({"DATA.SCALE": 1.0, "GONE": 1}, {}, {"DATA.SCALE": 1.0}, {}) == []
    assert differences({}, {}, {"DATA.SCALE": 1.0}, {}) == [], "a record of an earlier version"
    assert differences({"A": 1}, {"x": "1"}, {}, {"x": "2"}) == ["other weights in x"]
    assert differences({"A": 1}, {"x": "1"}, {}, {"x": ""}) == [], "removed, its results are kept"


def test_weights_of__are_told_by_their_numbers(tmp_path: Path) -> None:
    path = _weights(tmp_path / "a.ckpt", 1.0)
    command = Command("a", "val.py", ("--checkpoint", str(path)))
    before = weights_of(command)
    assert before == {str(path): weights_digest(load_checkpoint(path))}
    assert (
        weights_digest(load_checkpoint(_weights(tmp_path / "b.ckpt", 1.0, global_step=9)))
        == before[str(path)]
    )
    _weights(path, 2.0, more="x" * 99)
    assert weights_of(command) != before
    path.write_text("no weights at all")
    assert len(weights_of(command)[str(path)]) == 64
    path.unlink()
    assert weights_of(command) == {str(path): ""}
    assert weights_of(Command("a", "val.py", ())) == {}
