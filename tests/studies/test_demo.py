"""The demo's own folder, and the `--help` of every study."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cups.errors import UserError
from cups.io.files import write_json
from studies import demo

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(
    path
    for folder in ("studies", "benchmarks")
    for path in (ROOT / folder).glob("*.py")
    if "def main(argv" in path.read_text()
)
SIZE = {"train_frames": 6, "val_frames": 3}
HEAVY = ("torch", "scipy", "sklearn", "matplotlib", "detectron2", "pytorch_lightning")


def test_prepare__another_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="holds something else; choose another `output`"):
        demo.main(["--output", str(tmp_path), "--fresh"])
    assert (tmp_path / "thesis.tex").is_file()


@pytest.mark.parametrize("fresh", [True, False])
def test_prepare__an_earlier_demo_goes_on_unless_fresh(tmp_path: Path, fresh: bool) -> None:
    output = tmp_path / "demo"
    demo.prepare(output, fresh, (6, 3))
    write_json(output / "toy_streets" / "toy_streets.json", {"parameters": SIZE})
    demo.prepare(output, fresh, (6, 3))
    assert output.exists() != fresh


def test_prepare__a_demo_of_other_frames_goes_on_with_its_own(tmp_path: Path) -> None:
    """A folder of 90 and 20 frames, as all were: its labels and networks would not fit new data."""
    output = tmp_path / "demo"
    write_json(output / "toy_streets" / "toy_streets.json", {"parameters": SIZE})
    found = r"holds 6 training and 3 validation frames, not 300 and 150; .*`fresh`.* `frames` 6 3 to go on"
    with pytest.raises(UserError, match=found):
        demo.main(["--output", str(output)])
    with pytest.raises(UserError, match="`frames` 0: must be at least 1"):
        demo.main(["--output", str(output), "--frames", "4", "0"])
    demo.prepare(output, True, (300, 150))
    assert not output.exists()


def test_main__pairs_may_stand_between_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr(demo, "demo_steps", lambda *arguments: asked.update(steps=arguments) or [])
    monkeypatch.setattr(demo, "run_steps", lambda steps, folder: [])
    monkeypatch.setattr("studies.demo_report.write_report", lambda *arguments: tmp_path)
    output = tmp_path / "demo"
    flags = ["--output", str(output), "TRAINING.STEPS", "4", "--seed", "3", "SYSTEM.SEED", "5"]
    assert demo.main([*flags, "--depth", "disparity", "--frames", "6", "3"]) == 0
    pairs = ["TRAINING.STEPS", "4", "SYSTEM.SEED", "5"]
    assert asked["steps"] == (output.resolve(), 2, 3, pairs, "disparity", (6, 3))


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


def test_main__a_second_demo_is_refused_before_fresh_removes_the_first(
    tmp_path: Path, foreign_writer: Callable[[Path], None]
) -> None:
    output = tmp_path / "demo"
    write_json(output / "toy_streets" / "toy_streets.json", {"parameters": SIZE})
    foreign_writer(tmp_path / ".demo.writer")
    with pytest.raises(UserError, match=r"process 1 on .* since 2026-01-01 .*, or choose another `output`"):
        demo.main(["--output", str(output), "--fresh"])
    assert (output / "toy_streets").is_dir()
