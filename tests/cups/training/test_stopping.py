"""Signals that wait for the end of a step."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from lightning_fabric.plugins.environments import SLURMEnvironment

from cups.errors import Stopped
from cups.training.run_folder import run_plugins
from cups.training.stopping import Clock, StopSignals, agree_on, requeue


def test_stop_signals__the_first_is_noted_and_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as stop:
        assert stop.received == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def _raise_twice() -> None:
    with StopSignals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_stop_signals__a_second_one_ends_the_process_at_once() -> None:
    process = multiprocessing.get_context("fork").Process(target=_raise_twice)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGINT


def test_clock__says_when_time_has_passed() -> None:
    assert Clock(0).is_due and not Clock(60).is_due


def test_agree_on__one_process_decides_alone() -> None:
    assert agree_on(15, torch.device("cpu")) == 15


def _fake_scontrol(folder: Path, code: int) -> None:
    path = folder / "scontrol"
    path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\necho "not allowed" >&2\nexit {code}\n')
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("number", "asked"),
    [(signal.SIGUSR1, "requeue 7\n"), (signal.SIGUSR2, "requeue 7\n"), (signal.SIGTERM, "")],
)
def test_stop_signals__a_warned_job_is_queued_again_once_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, asked: str
) -> None:
    _fake_scontrol(tmp_path, 0)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(Stopped) as stopped, StopSignals() as stop:
        signal.raise_signal(number)
        assert stop.received == number and not (tmp_path / "asked").exists()
        raise Stopped("saved", stop.received)
    assert stopped.value.code == 128 + number
    assert ((tmp_path / "asked").read_text() if asked else "") == asked


def test_stop_signals__only_the_first_process_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_scontrol(tmp_path, 0)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(Stopped), StopSignals():
        signal.raise_signal(signal.SIGUSR1)
        raise Stopped("", 0)
    assert not (tmp_path / "asked").exists()


def test_requeue__what_went_wrong_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert not requeue() and not caplog.messages
    _fake_scontrol(tmp_path, 1)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert not requeue()
    assert caplog.messages == ["SLURM job 7: not queued again (not allowed); submit it again"]


def test_run_plugins__lightning_never_requeues_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler saves at once: one process in a barrier, the other in a reduction, for ever."""
    monkeypatch.setattr(SLURMEnvironment, "detect", staticmethod(lambda: True))
    found = [plugin for plugin in run_plugins() if isinstance(plugin, SLURMEnvironment)]
    assert [plugin.auto_requeue for plugin in found] == [False]
