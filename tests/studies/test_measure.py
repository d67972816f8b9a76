"""What steps cost: records that read back, true measurements."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from cups.errors import UserError
from studies.measure import (
    StepRecord,
    config_digests,
    describe_machine,
    duration,
    machine_line,
    read_step,
    run_measured,
    steps_table,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.21, "4.2 s"),
        (59.97, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7380, "2 h 03 min"),
    ],
)
def test_duration__units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_step_record__reads_back_and_sums(tmp_path: Path) -> None:
    step = StepRecord("cause", 61.0, 512.4, ("python", "x.py"), {"a.yaml": "0f"})
    step.write_json(tmp_path / "step.json")
    assert read_step(tmp_path / "step.json") == step
    lines = steps_table([step, StepRecord("train", 30.0, 900.0)]).splitlines()
    assert lines[-1].split("|")[1].strip() == "total" and "1 min 31 s" in lines[-1] and "900 MB" in lines[-1]
    (tmp_path / "step.json").write_text("{}")
    with pytest.raises(UserError, match="is no StepRecord record; run the step again"):
        read_step(tmp_path / "step.json")


def test_run_measured__output_passes_through(capfd: pytest.CaptureFixture[str]) -> None:
    script = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    step = run_measured([sys.executable, "-S", "-c", script], "speak")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("out\n", "err\n")
    assert step.name == "speak" and step.command[-1] == script and 0 < step.seconds < 30


def test_run_measured__memory_is_the_childs_own() -> None:
    """A child inherits its parent's peak on Linux: this process, with torch, would hide the small one."""
    ballast = bytearray(80 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    small = run_measured([sys.executable, "-S", "-c", "pass"])
    large = run_measured([sys.executable, "-S", "-c", "x = b'x' * (120 << 20)"])
    assert small.peak_memory_mb < 60
    assert 120 < large.peak_memory_mb < 200


def test_run_measured__grandchildren_count() -> None:
    script = (
        "import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', \"x = b'x' * (120 << 20)\"])"
    )
    assert run_measured([sys.executable, "-S", "-c", script]).peak_memory_mb > 120


def test_run_measured__environment_and_time() -> None:
    script = "import os, sys, time; time.sleep(0.2); sys.exit(os.environ['WORD'] != 'yes')"
    step = run_measured([sys.executable, "-S", "-c", script], env={**os.environ, "WORD": "yes"})
    assert step.seconds >= 0.2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([sys.executable, "-S", "-c", "raise SystemExit(4)"], "failed with exit code 4"),
        ([sys.executable, "-S", "-c", "raise SystemExit(3)"], "found nothing"),
        ([sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)"], "failed with exit code -9"),
        (["/nowhere/program"], r"/nowhere/program: cannot be started \(No such file"),
    ],
)
def test_run_measured__failure(argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_measured(argv)


def test_run_measured__interruption_ends_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    started, wait = tmp_path / "pid", subprocess.Popen.wait
    calls = []

    def interrupted(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        calls.append(self)
        while len(calls) == 1 and not (started.exists() and started.read_text()):
            time.sleep(0.01)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return wait(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    script = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        run_measured([sys.executable, "-S", "-c", script])
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_describe_machine__names_what_matters() -> None:
    machine = describe_machine()
    assert {"processor", "cores", "memory", "gpu", "python", "torch", "numpy"} <= machine.keys()
    assert all(machine.values()) and int(machine["cores"]) >= 1
    assert machine["torch"] in machine_line() and machine["processor"] in machine_line()


def test_config_digests__follow_the_content_of_files_that_exist(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    argv = ("train.py", str(config), str(tmp_path / "missing.yaml"))
    assert config_digests(argv) == {}
    config.write_text("TRAINING: {STEPS: 1}\n")
    before = config_digests(argv)
    config.write_text("TRAINING: {STEPS: 2}\n")
    assert before.keys() == config_digests(argv).keys() == {str(config)}
    assert before != config_digests(argv)
