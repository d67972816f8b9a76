"""Ctrl-C and SIGTERM end our scripts with one line, wherever they come, also a second time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cups import interrupts
from cups.interrupts import FORWARDED_SECONDS, MESSAGE, Interrupts, Repeats, Terminated, is_ours

ROOT = Path(__file__).resolve().parents[2]


class Exited(BaseException):
    """Takes the place of the end of the process."""


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the exit codes with which the process would have ended at once."""
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        raise Exited

    monkeypatch.setattr(interrupts.os, "_exit", leave)
    return codes


def test_on_signal__the_first_raises_the_second_ends(exits: list[int]) -> None:
    for number, kind, code in ((signal.SIGINT, KeyboardInterrupt, 130), (signal.SIGTERM, Terminated, 143)):
        taken = Interrupts()
        with pytest.raises(kind):
            taken._handle(number, None)
        taken.over = True
        with pytest.raises(Exited):
            taken._handle(number, None)
        assert exits.pop() == code


def test_on_signal__during_an_import_the_process_ends(
    exits: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Libraries swallow a `KeyboardInterrupt` of their imports, or make another error of it."""
    text = "import sys, signal\nfrom tests_of_interrupts import taken\n"
    (tmp_path / "swallows_it.py").write_text(f"{text}taken._handle(signal.SIGINT, sys._getframe())\n")
    (tmp_path / "tests_of_interrupts.py").write_text(
        "from cups.interrupts import Interrupts\ntaken = Interrupts()"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Exited):
        __import__("swallows_it")
    assert exits == [130] and capfd.readouterr().err == f"{MESSAGE}\n"


def test_on_signal__a_forked_process_leaves_it_to_the_first(exits: list[int]) -> None:
    taken = Interrupts()
    taken._process = os.getpid() + 1
    taken._handle(signal.SIGINT, sys._getframe())
    assert exits == [] and not taken.received


def test_is_ours__not_in_tests_and_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_ours() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    for file, ours in (("train.py", True), ("pseudo_labels/train_cause.py", True), ("tests/x.py", False)):
        monkeypatch.setattr(sys.modules["__main__"], "__file__", str(ROOT / file), raising=False)
        assert is_ours() is ours
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/usr/lib/ipykernel_launcher.py")
    assert not is_ours()


@pytest.mark.parametrize("modules", [0, 40, 400])
@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_scripts__interrupted_while_they_start_end_with_one_line(
    modules: int, again: bool, tmp_path: Path
) -> None:
    """The moment is counted in modules imported since Ctrl-C is ours: the same on every machine."""
    command = [sys.executable, "-X", "importtime", str(ROOT / "val.py"), "--image_dir", str(tmp_path)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.rstrip().endswith("cups.interrupts"):
                break
        for _ in range(modules):
            run.stderr.readline()
        for _ in range(1 + again):
            run.send_signal(signal.SIGINT)
        told = [line for line in run.stderr if not line.startswith("import time:")]
        assert run.wait(60) == 130
    assert told in ([f"{MESSAGE}\n"], []) if again else told == [f"{MESSAGE}\n"]


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


TOLD = f"{MESSAGE}\n"


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
