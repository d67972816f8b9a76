"""The demo's own folder, and the `--help` of every study."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cups.errors import UserError
from studies import demo

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(
    path
    for folder in ("studies", "benchmarks")
    for path in (ROOT / folder).glob("*.py")
    if "def main(argv" in path.read_text()
)
HEAVY = ("torch", "scipy", "sklearn", "matplotlib", "detectron2", "pytorch_lightning")


def test_prepare__another_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="holds something else; choose another `output`"):
        demo.main(["--output", str(tmp_path), "--fresh"])
    assert (tmp_path / "thesis.tex").is_file()


@pytest.mark.parametrize("fresh", [True, False])
def test_prepare__an_earlier_demo_goes_on_unless_fresh(tmp_path: Path, fresh: bool) -> None:
    output = tmp_path / "demo"
    demo.prepare(output, fresh)
    (output / "toy_streets").mkdir(parents=True)
    demo.prepare(output, fresh)
    assert output.exists() != fresh


def test_main__pairs_may_stand_between_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr(demo, "demo_steps", lambda *arguments: asked.update(steps=arguments) or [])
    monkeypatch.setattr(demo, "run_steps", lambda steps, folder: [])
    monkeypatch.setattr("studies.demo_report.write_report", lambda *arguments: tmp_path)
    output = tmp_path / "demo"
    flags = ["--output", str(output), "TRAINING.STEPS", "4", "--seed", "3", "SYSTEM.SEED", "5"]
    assert demo.main([*flags, "--depth", "disparity"]) == 0
    pairs = ["TRAINING.STEPS", "4", "SYSTEM.SEED", "5"]
    assert asked["steps"] == (output.resolve(), 2, 3, pairs, "disparity")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help__loads_nothing_heavy(script: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{script.name!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(script)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"heavy = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: ")
