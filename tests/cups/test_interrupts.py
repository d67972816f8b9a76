"""Ctrl-C and SIGTERM end an entry script without a traceback, also a second time."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cups.interrupts import FORWARDED_SECONDS, Repeats

SCRIPT = """
import sys, time
from cups.errors import run_main
def main():
    try:
        print("started", flush=True)
        time.sleep(30)
    finally:
        {then}
run_main(main)
"""


def _interrupted(then: str, *numbers: int) -> tuple[int, str]:
    argv = [sys.executable, "-c", SCRIPT.format(then=then)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "started\n"
        for count, number in enumerate(numbers, start=1):
            process.send_signal(number)
            if count < len(numbers):
                assert process.stdout.readline() == "tidying\n"
        said = process.stderr.read()
    return process.returncode, said


TOLD = "interrupted; run the same command again to continue\n"


@pytest.mark.parametrize(
    ("then", "numbers", "code", "told"),
    [
        ("pass", [signal.SIGINT], 130, TOLD),
        ("pass", [signal.SIGTERM], 143, TOLD),
        ("raise SystemError('a C function was interrupted')", [signal.SIGINT], 130, TOLD),
        ("print('tidying', flush=True); time.sleep(30)", [signal.SIGINT, signal.SIGINT], 130, ""),
    ],
)
def test_run_main__a_signal_is_one_line(then: str, numbers: list[int], code: int, told: str) -> None:
    assert _interrupted(then, *numbers) == (code, told)


def test_repeats__only_ctrl_c_insists_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler's SIGTERM reaches a training directly and through its parents: killed, it saved nothing."""
    now = [1.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    repeats = Repeats()
    assert not repeats.insists(signal.SIGUSR1)
    now[0] += 0.01
    assert [repeats.insists(number) for number in (signal.SIGTERM, signal.SIGINT)] == [False, False]
    now[0] += 0.01
    assert [repeats.insists(number) for number in (signal.SIGTERM, signal.SIGINT)] == [False, True]
    now[0] += FORWARDED_SECONDS
    assert repeats.insists(signal.SIGTERM)


def test_interrupts__is_light() -> None:
    """Every `--help` pays for it."""
    code = "import sys; import cups.errors, cups.io.children; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path.cwd()).returncode == 0
