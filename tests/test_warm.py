"""The `python` of the tests is one: words, files, exit codes and signals as of the real Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.warm import warm_environment, warm_python

TELL = """
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), sys.path[:2], os.environ["WORD"], __name__, __file__]))
print("to the other", file=sys.stderr)
"""
ENDS = {
    "nothing": "",
    "code": "raise SystemExit(7)",
    "words": "raise SystemExit('so it ended')",
    "error": "raise ValueError('wrong')",
    "ctrl_c": "raise KeyboardInterrupt",
    "killed": "import os; os.kill(os.getpid(), 15)",
    "at_exit": "import atexit; atexit.register(print, 'gone'); print('here', end=' ')",
}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "script.py"


def run(python: str, *words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *map(str, words)], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_warm_python__sees_what_the_real_one_sees(script: Path, tmp_path: Path) -> None:
    script.write_text(TELL)
    environment = os.environ | {"WORD": "a b", "PYTHONPATH": str(tmp_path / "x")}
    options = {"cwd": tmp_path.parent, "env": environment}
    code = script.read_text().replace("__file__", "sys.path[0]")
    ways = ((script, "--flag", "two words"), ("-m", f"{tmp_path.name}.script", "one"), ("-c", code, "one"))
    for words in ways:
        real, warm = (run(python, *words, **options) for python in (sys.executable, warm_python()))
        assert real.returncode == 0, real.stderr
        assert (warm.stdout, warm.stderr) == (real.stdout, real.stderr)


@pytest.mark.parametrize("kind", ENDS)
def test_warm_python__ends_as_the_real_one_ends(script: Path, kind: str) -> None:
    script.write_text(ENDS[kind])
    real, warm = (run(python, script) for python in (sys.executable, warm_python()))
    assert (warm.returncode, warm.stdout) == (real.returncode, real.stdout)
    assert warm.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_warm_python__a_signal_reaches_the_program(script: Path, tmp_path: Path, number: int) -> None:
    script.write_text("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    process = subprocess.Popen(
        [warm_python(), str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    program = int(process.stdout.readline())
    process.send_signal(number)
    assert process.wait(30) == -number
    end = time.monotonic() + 30
    while Path(f"/proc/{program}").exists():
        assert time.monotonic() < end, "the program outlives who stands for it"
        time.sleep(0.01)


def test_warm_python__forgets_the_variables_of_the_server(script: Path, tmp_path: Path) -> None:
    script.write_text("import tempfile; print(tempfile.gettempdir())")
    assert run(warm_python(), script, env={**os.environ, "TMPDIR": str(tmp_path)}).stdout.strip() == str(
        tmp_path
    )


def test_warm_environment__is_an_active_one() -> None:
    code = 'python -I -c "import sys; print(sys.executable)"; "$VIRTUAL_ENV/bin/python" -S -m this'
    said = run("bash", "-c", code, env={**os.environ, **warm_environment()})
    assert said.returncode == 0 and said.stdout.splitlines()[0] == sys.executable and "Zen" in said.stdout
