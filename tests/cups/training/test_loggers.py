"""Where the numbers of a run go."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from cups.training import loggers as module
from cups.training.loggers import build_loggers


def test_build_loggers__local_files_need_no_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert [type(logger) for logger in build_loggers(tmp_path, None)] == [CSVLogger, TensorBoardLogger]


@pytest.mark.parametrize(
    ("wandb", "reason"),
    [
        (None, "not installed"),
        (SimpleNamespace(login=lambda prompt: False), "no account on this machine"),
        (SimpleNamespace(login=lambda prompt: 1 / 0), "division by zero"),
    ],
)
def test_build_loggers__a_wandb_that_cannot_be_used_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wandb: Any, reason: str
) -> None:
    """It is on by default, and ended the training with its own exception, after the network was built."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(module, "find_spec", lambda name: wandb)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    loggers = build_loggers(tmp_path, "a project")
    assert [type(logger) for logger in loggers] == [CSVLogger, TensorBoardLogger]
    (message,) = caplog.messages
    assert reason in message and "logs go to the run folder alone" in message


def test_build_loggers__a_wandb_that_fails_to_start_is_found_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def __init__(self, **_: Any) -> None:
            raise ConnectionError("no network")

    monkeypatch.setattr(module, "_wandb_missing", lambda: None)
    monkeypatch.setattr(module, "WandbLogger", Broken)
    assert len(build_loggers(tmp_path, "a project")) == 2
    assert "no network" in caplog.text
