"""Ctrl-C in our scripts: one line and exit code 130, wherever it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import pytest

from cups import interrupts
from cups.interrupts import CODE, MESSAGE, Interrupts, is_ours

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
    monkeypatch.setattr(interrupts, "is_over", lambda _: False)
    return codes


def test_on_signal__the_first_raises_the_second_ends(exits: list[int]) -> None:
    taken = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        taken.on_signal(signal.SIGINT, sys._getframe())
    with pytest.raises(Exited):
        taken.on_signal(signal.SIGINT, sys._getframe())
    assert exits == [CODE] == [130]


def test_on_signal__during_an_import_the_process_ends(
    exits: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Libraries swallow a `KeyboardInterrupt` of their imports, or make another error of it."""
    text = "import sys, signal\nfrom tests_of_interrupts import taken\n"
    (tmp_path / "swallows_it.py").write_text(f"{text}taken.on_signal(signal.SIGINT, sys._getframe())\n")
    (tmp_path / "tests_of_interrupts.py").write_text(
        "from cups.interrupts import Interrupts\ntaken = Interrupts()"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Exited):
        __import__("swallows_it")
    assert exits == [CODE] and capfd.readouterr().err == f"{MESSAGE}\n"


def test_on_signal__a_forked_process_leaves_it_to_the_first(exits: list[int]) -> None:
    taken = Interrupts()
    taken.process = os.getpid() + 1
    taken.on_signal(signal.SIGINT, sys._getframe())
    assert exits == [] and not taken.obeying


def test_is_over__after_the_script_nothing_of_it_is_running() -> None:
    def frame_of(name: str) -> FrameType:
        space = {"__name__": name, "sys": sys}
        exec("frame = (lambda: sys._getframe())()", space)  # test code of its own
        return space["frame"]  # type: ignore[return-value]

    alone = type("Frame", (), {})
    for name, over in (("__main__", False), ("threading", True)):
        frame = alone()
        frame.f_back, frame.f_globals, frame.f_code = None, {"__name__": name}, frame_of(name).f_code
        assert interrupts.is_over(frame) is over
    assert interrupts.is_over(None)


def test_is_ours__not_in_tests_and_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_ours() and signal.getsignal(signal.SIGINT) is not interrupts.Interrupts.on_signal
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
        assert run.wait(60) == CODE
    assert told in ([f"{MESSAGE}\n"], []) if again else told == [f"{MESSAGE}\n"]
