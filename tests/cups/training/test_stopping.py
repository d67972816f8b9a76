"""Signals that wait for the end of a step."""

from __future__ import annotations

import multiprocessing
import os
import signal

import torch

from cups.training.stopping import Clock, StopSignals, agree_on


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
