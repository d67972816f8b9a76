"""Where the numbers of a run go."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from cups.training import loggers as module
from cups.training.loggers import ID_FILE, build_loggers


def test_build_loggers__local_files_need_no_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert [type(logger) for logger in build_loggers(tmp_path, None)] == [CSVLogger, TensorBoardLogger]
    assert not (tmp_path / ID_FILE).exists()


def test_build_loggers__a_wandb_that_is_not_there_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is on by default, and ended the training with its own exception, after the network was built."""
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    loggers = build_loggers(tmp_path, "a project")
    assert [type(logger) for logger in loggers] == [CSVLogger, TensorBoardLogger]
    (message,) = caplog.messages
    assert "not installed" in message and "logs go to the run folder alone" in message


class Server:
    """Stands in for the parts of wandb that speak to a server."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.account, self.fails = True, ""
        self.started: list[dict[str, Any]] = []
        self.torn_down = 0
        wandb = pytest.importorskip("wandb")
        monkeypatch.delenv("WANDB_MODE", raising=False)
        for name in ("run", "login", "init", "teardown"):
            monkeypatch.setattr(wandb, name, getattr(self, name, None))

    def login(self, prompt: bool, verify: bool) -> bool:
        assert not prompt and not verify, "it would ask, or wait for the server without a limit"
        return self.account

    def init(self, **options: Any) -> Any:
        self.started.append(options)
        if self.fails and options.get("mode") != "offline":
            raise ConnectionError(self.fails)
        config = SimpleNamespace(update=lambda values, allow_val_change: options.update(config=values))
        return SimpleNamespace(config=config, dir=f"{options['dir']}/wandb/offline-run-1/files")

    def teardown(self) -> None:
        self.torn_down += 1


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


def test_wandb__is_given_the_config_and_a_limit_of_time(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    (_, _, logger) = build_loggers(tmp_path, "a project", {"TRAINING": {"STEPS": 4}})
    assert isinstance(logger, WandbLogger) and caplog.messages == []
    (options,) = server.started
    assert (options["project"], options["name"], options["resume"]) == ("a project", tmp_path.name, "allow")
    assert options["config"] == {"TRAINING": {"STEPS": 4}}
    assert options["settings"].init_timeout <= 30 and options["settings"].finish_timeout > 0


def test_wandb__a_resumed_run_is_the_same_run(tmp_path: Path, server: Server) -> None:
    for folder in ("one", "one", "another"):
        build_loggers(tmp_path / folder, "a project")
    first, second, other = (options["id"] for options in server.started)
    assert first == second != other
    (tmp_path / "one" / ID_FILE).write_bytes(b"../\xff")  # no id
    build_loggers(tmp_path / "one", "a project")
    assert server.started[-1]["id"].isalnum()


@pytest.mark.parametrize(
    ("account", "fails", "reason"),
    [(False, "", "no account on this machine"), (True, "no route to host", "no route to host")],
)
def test_wandb__without_account_or_server_is_one_warning_and_offline(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture, account: bool, fails: str, reason: str
) -> None:
    server.account, server.fails = account, fails
    (_, _, logger) = build_loggers(tmp_path, "a project", {"STEPS": 4})
    assert isinstance(logger, WandbLogger) and server.torn_down == 1
    options = server.started[-1]
    assert (options["mode"], options["config"]) == ("offline", {"STEPS": 4})
    assert {one["id"] for one in server.started} == {options["id"]}
    (message,) = caplog.messages
    assert reason in message and f"`wandb sync {tmp_path / 'wandb' / 'offline-run-1'}`" in message


def test_wandb__hears_from_the_first_process_only(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(rank_zero_only, "rank", 1)
        assert len(build_loggers(tmp_path, "a project")) == 2
    monkeypatch.setenv("NODE_RANK", "1")
    assert len(build_loggers(tmp_path, "a project")) == 2
    assert server.started == [] and not (tmp_path / ID_FILE).exists()


def test_wandb__an_earlier_stage_in_this_process_is_finished(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning took the run in progress: Stage 3 of train_hybrid.py went on with Stage 2's."""
    wandb = sys.modules["wandb"]
    finished = []

    def finish() -> None:
        finished.append(wandb.run)
        monkeypatch.setattr(wandb, "run", None)

    monkeypatch.setattr(wandb, "run", "of Stage 2")
    monkeypatch.setattr(wandb, "finish", finish, raising=False)
    build_loggers(tmp_path, "a project")
    assert finished == ["of Stage 2"] and len(server.started) == 1


@pytest.fixture
def _no_service_left() -> Iterator[None]:
    """End the service of wandb, which would outlive the test."""
    wandb = pytest.importorskip("wandb")
    yield
    wandb.teardown()


@pytest.mark.usefixtures("_no_service_left")
def test_wandb__the_real_one_writes_offline_what_can_be_sent_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # no account
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    (_, _, logger) = build_loggers(tmp_path / "run", "a project", {"STEPS": 4})
    assert isinstance(logger, WandbLogger)
    logger.log_metrics({"loss": 0.5}, step=3)
    logger.experiment.finish()
    sys.modules["wandb"].teardown()  # the end of the process: only then is all written
    (message,) = [record.getMessage() for record in caplog.records if record.name == module.__name__]
    path = Path(message.partition("`wandb sync ")[2].partition("`")[0])
    kept = (tmp_path / "run" / ID_FILE).read_text().strip()
    (written,) = path.glob("run-*.wandb")
    assert written.name == f"run-{kept}.wandb"
    content = written.read_bytes()
    assert all(word in content for word in (b"trainer/global_step", b"loss", b"STEPS"))
