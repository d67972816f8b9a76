"""Where a run's numbers go: CSV and TensorBoard in its folder, and Weights & Biases."""

from __future__ import annotations

import logging
import os
import re
import uuid
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from cups.io.files import write_text

log = logging.getLogger(__name__)

START_SECONDS = 30
"""What the server of W&B gets to answer at the start."""
END_SECONDS = 120
"""What uploads get at the end of a run: W&B itself waits for a lost server without a limit."""
ID_FILE = "wandb_id.txt"


def build_loggers(
    directory: Path, wandb_project: str | None, config: Mapping[str, Any] | None = None
) -> list[Logger]:
    """Return CSV and TensorBoard loggers in the run folder, and W&B if there is a project for it.

    W&B without an account or a server is warned of and writes to the run folder, to be sent later.

    Args:
        config: what W&B shows as the run's configuration.
    """
    loggers: list[Logger] = [
        CSVLogger(directory, name="csv", flush_logs_every_n_steps=10),
        TensorBoardLogger(directory, name="", version="tensorboard"),
    ]
    if wandb_project and _is_first_process():
        loggers += _wandb_logger(directory, wandb_project, config or {})
    return loggers


def _is_first_process() -> bool:
    """Return whether this is the one process of a run that W&B hears from."""
    # Lightning reads the rank on its node where nothing tells the rank in the run.
    return getattr(rank_zero_only, "rank", 0) == 0 and os.environ.get("NODE_RANK", "") in ("", "0")


def _wandb_logger(directory: Path, project: str, config: Mapping[str, Any]) -> list[Logger]:
    """Return the W&B logger, already started: what is wrong with it comes up now, not hours later."""
    if find_spec("wandb") is None:
        log.warning(
            "Weights & Biases: not installed (pip install wandb); logs go to the run folder alone "
            "(no warning with SYSTEM.WANDB False)"
        )
        return []
    wandb = import_module("wandb")
    if getattr(wandb, "run", None) is not None:
        wandb.finish()  # of the stage before; Lightning would go on with its run
    reason = _no_login(wandb)
    if reason is None:
        try:
            return [_started(wandb, directory, project, config)]
        except Exception as error:  # it raises its own kinds, those of requests, and ValueError
            reason = _line(error)
    return _offline(wandb, directory, project, config, reason)


def _started(
    wandb: Any, directory: Path, project: str, config: Mapping[str, Any], **more: Any
) -> WandbLogger:
    """Return a logger whose run has begun, or goes on: one run of W&B for each run folder."""
    limits = {"init_timeout": START_SECONDS, "finish_timeout": END_SECONDS}
    known = getattr(wandb.Settings, "model_fields", {"init_timeout": None})  # those of before 0.19
    settings = wandb.Settings(**{name: value for name, value in limits.items() if name in known})
    logger = WandbLogger(
        project=project,
        name=directory.name,
        id=_run_id(directory),
        save_dir=directory,
        log_model=False,
        settings=settings,
        **more,
    )
    logger.log_hyperparams(dict(config))
    return logger


def _offline(
    wandb: Any, directory: Path, project: str, config: Mapping[str, Any], reason: str
) -> list[Logger]:
    """Return a logger that writes to the run folder, and warn why it is not online."""
    try:
        wandb.teardown()  # a start that failed keeps the run's id in use
        # Its own `resume` is of online runs, and warned of.
        logger = _started(wandb, directory, project, config, mode="offline", resume=None)
    except Exception as error:
        log.warning("Weights & Biases: %s; %s; logs go to the run folder alone", reason, _line(error))
        return []
    log.warning(
        "Weights & Biases: %s; offline, `wandb sync %s` sends it later (no warning with SYSTEM.WANDB False)",
        reason,
        Path(logger.experiment.dir).parent,
    )
    return [logger]


def _no_login(wandb: Any) -> str | None:
    """Return why W&B knows no account, None if it does or needs none."""
    if os.environ.get("WANDB_MODE", "online") != "online":
        return None
    try:
        # Unverified: the start that follows asks the server, and within a limit.
        known = wandb.login(prompt=False, verify=False)
    except TypeError:  # before 0.22 an argument did not exist
        known = wandb.api.api_key is not None
    except Exception as error:
        return _line(error)
    return None if known else "no account on this machine (wandb login)"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _run_id(directory: Path) -> str:
    """Return the id that a run folder keeps, so that a resumed run continues its curves."""
    path = directory / ID_FILE
    known = path.read_text(errors="replace").strip() if path.is_file() else ""
    if re.fullmatch(r"[A-Za-z0-9]{4,64}", known):
        return known
    known = uuid.uuid4().hex[:12]
    write_text(path, known + "\n")
    return known
