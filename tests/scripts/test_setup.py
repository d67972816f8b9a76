"""The set-up with pretended Pythons and a pretended pip: which it takes, what it says, when it stops."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ("requirements.txt", "requirements_cups.txt", "pyproject.toml", "setup.py", "scripts/setup.sh")
TOOLS = [
    "bash",
    "cat",
    "chmod",
    "cp",
    "cut",
    "dirname",
    "grep",
    "mkdir",
    "mktemp",
    "rm",
    "sha256sum",
    "tail",
    "tee",
]
FAKE = """#!/usr/bin/env bash
# Python {version} as the set-up sees it; what it is asked to install goes to the log.
case "$1 $2" in
  "-c import pip") [[ -z "${{NO_PIP:-}}" ]] ;;
  "-c import sys"*) echo {version} ;;
  "-c "*) echo "torch 2, detectron2 0.6" ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "venv with {name}" >>"$LOG" ;;
  "-m pip")
    echo "${{*:3}}" >>"$LOG"
    if [[ -n "${{BREAKS:-}}" && "$*" == *"$BREAKS"* ]]; then
      for line in {{1..20}}; do echo "said $line"; done
      echo "ERROR: no space left" >&2
      exit 1
    fi
    [[ "$*" != *" download "* ]] || touch_archive "$@"
    ;;
esac
"""
ARCHIVE = """touch_archive() {
  while [[ $1 != --dest ]]; do shift; done
  : >"$2/pb1-detectron2-0.6.tar.gz"
  mkdir -p "$2/wheel" && : >"$2/wheel/detectron2-0.6-py3-none-any.whl"
}
"""


class Machine:
    """A checkout and a PATH of pretended programs in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.repository, self.programs, self.log = folder / "repo", folder / "bin", folder / "log"
        self.venv = self.repository / ".venv"
        (self.repository / "scripts").mkdir(parents=True)
        self.programs.mkdir()
        for name in FILES:
            shutil.copy(ROOT / name, self.repository / name)
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.programs / tool).symlink_to(found)

    def python(self, name: str, version: str, folder: Path | None = None) -> Path:
        """Put a pretended Python somewhere (on the PATH)."""
        path = (folder or self.programs) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        first, _, rest = FAKE.format(name=name, version=version).partition("\n")
        path.write_text(f"{first}\n{ARCHIVE}{rest}")
        path.chmod(0o755)
        return path

    def setup(self, *flags: str, expect: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the set-up; return what it printed."""
        environment = {"PATH": str(self.programs), "LOG": str(self.log), **environment}
        command = [str(self.programs / "bash"), "scripts/setup.sh", *flags]
        run = subprocess.run(
            command,
            cwd=self.repository,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == expect, run.stdout + run.stderr
        return run

    def logged(self) -> list[str]:
        """Return what was asked of the pretended Pythons since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_setup__installs_once(machine: Machine) -> None:
    machine.python("python3", "3.11")
    first = machine.setup()
    asked = machine.logged()
    assert asked[0] == "venv with python3"
    assert any("install -r requirements.txt" in line for line in asked)
    assert any("download" in line and "pb1-detectron2==0.6" in line for line in asked)
    assert any("--editable .[crf]" in line for line in asked)
    assert "done: torch 2, detectron2 0.6" in first.stdout and not first.stderr
    again = machine.setup()
    assert "already installed" in again.stdout and machine.logged() == []


@pytest.mark.parametrize("change", ["requirements.txt", "pyproject.toml", "flag", "folder"])
def test_setup__installs_again_after_a_change(machine: Machine, change: str) -> None:
    """The editable install points at a folder: a moved checkout is installed anew, too."""
    machine.python("python3", "3.11")
    machine.setup()
    machine.logged()
    if change == "folder":
        machine.repository = machine.repository.rename(machine.repository.with_name("moved"))
    elif change != "flag":
        (machine.repository / change).write_text("# another\n")
    machine.setup(*["--official-detectron2"] * (change == "flag"))
    asked = machine.logged()
    assert any("install -r requirements.txt" in line for line in asked)
    assert "venv with python3" not in asked, "the environment itself is kept"
    assert any("git+https" in line for line in asked) == (change == "flag")


@pytest.mark.parametrize("version", ["3.9", "3.13", "3.14", "2.7"])
def test_setup__other_pythons_are_refused_before_anything_is_made(machine: Machine, version: str) -> None:
    machine.python("python3", version)
    run = machine.setup(expect=2)
    assert len(run.stderr.splitlines()) == 1
    assert f"python3 is Python {version}; needs Python 3.10, 3.11 or 3.12" in run.stderr
    assert "PYTHON=python3.12 bash scripts/setup.sh" in run.stderr
    assert not machine.venv.exists() and machine.logged() == []


def test_setup__no_python_at_all(machine: Machine) -> None:
    assert "no python3 that runs; needs Python 3.10" in machine.setup(expect=2).stderr
    assert "no nix that runs; needs Python 3.10" in machine.setup(expect=2, PYTHON="nix").stderr


def test_setup__takes_a_python_that_fits_beside_a_newer_one(machine: Machine) -> None:
    machine.python("python3", "3.13")
    machine.python("python3.12", "3.12")
    machine.setup()
    assert machine.logged()[0] == "venv with python3.12"


def test_setup__the_named_python_is_taken_or_refused(machine: Machine) -> None:
    machine.python("python3", "3.11")
    machine.python("mine", "3.13")
    assert "mine is Python 3.13; needs" in machine.setup(expect=2, PYTHON="mine").stderr
    machine.python("mine", "3.10")
    machine.setup(PYTHON="mine")
    assert machine.logged()[0] == "venv with mine"


def test_setup__venv_of_a_wrong_python_is_made_anew(machine: Machine) -> None:
    machine.python("python3", "3.11")
    machine.python("python", "3.13", machine.venv / "bin")
    (machine.venv / "old").touch()
    assert ".venv: it has Python 3.13; made anew with python3" in machine.setup().stdout
    assert not (machine.venv / "old").exists()


def test_setup__broken_venv_is_made_anew(machine: Machine) -> None:
    """As after an upgrade of the system: the link leads nowhere."""
    machine.python("python3", "3.11")
    (machine.venv / "bin").mkdir(parents=True)
    (machine.venv / "bin" / "python").symlink_to("/gone/python3.8")
    assert ".venv: its Python does not run; made anew with python3" in machine.setup().stdout


def test_setup__wrong_venv_is_kept_where_nothing_can_replace_it(machine: Machine) -> None:
    machine.python("python3", "3.13")
    machine.python("python", "3.13", machine.venv / "bin")
    assert "python3 is Python 3.13; needs" in machine.setup(expect=2).stderr
    assert machine.venv.is_dir()


def test_setup__active_environment_is_used_and_never_removed(machine: Machine, tmp_path: Path) -> None:
    machine.python("python3", "3.13")
    active = tmp_path / "active"
    machine.python("python", "3.12", active / "bin")
    machine.setup(VIRTUAL_ENV=str(active))
    assert (active / ".cups-setup").is_file() and not machine.venv.exists()
    machine.python("python", "3.13", active / "bin")
    run = machine.setup(expect=2, VIRTUAL_ENV=str(active))
    assert f"{active}: is active and has Python 3.13; deactivate it" in run.stderr and active.is_dir()
    machine.python("python", "3.12", active / "bin")
    assert "has no pip; run" in machine.setup(expect=2, VIRTUAL_ENV=str(active), NO_PIP="1").stderr


@pytest.mark.parametrize("breaks", ["-r requirements.txt", "setuptools", "pb1-detectron2"])
def test_setup__stops_where_pip_fails(machine: Machine, breaks: str) -> None:
    """Before, `| grep ... || true` hid pip's exit code, and the set-up went on without the packages."""
    machine.python("python3", "3.11")
    run = machine.setup(expect=2, BREAKS=breaks)
    lines = run.stderr.splitlines()
    assert lines[0].startswith("setup.sh: pip ") and lines[0].endswith("failed; its last lines:")
    assert len(lines) == 9 and lines[-1] == "ERROR: no space left" and "said 20" in lines
    assert not (machine.venv / ".cups-setup").exists()
    assert breaks in machine.logged()[-1]
    machine.setup()


def test_setup__goes_on_without_the_crf(machine: Machine) -> None:
    machine.python("python3", "3.11")
    run = machine.setup(BREAKS="[crf]")
    (line,) = [line for line in run.stdout.splitlines() if "CRF was not built" in line]
    assert "pip install '.[crf]'" in line and "said" not in run.stdout and not run.stderr
    assert "already installed" in machine.setup().stdout


def test_setup__unknown_option_and_help(machine: Machine) -> None:
    assert "unknown option '--nix'" in machine.setup("--nix", expect=2).stderr
    assert "3.10, 3.11 or 3.12" in machine.setup("--help").stdout and not machine.venv.exists()
