"""What a run leaves in its folder: loggers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from cups.errors import UserError
from cups.training.run_folder import build_loggers


def test_build_loggers__local_files_need_no_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert [type(logger) for logger in build_loggers(tmp_path, None)] == [CSVLogger, TensorBoardLogger]
    with pytest.raises(UserError, match=r"^[^\n]*pip install wandb, or give `disable_wandb`$"):
        build_loggers(tmp_path, "a project")
