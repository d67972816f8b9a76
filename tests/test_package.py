"""What `pip install .` and `pip install -r requirements.txt` bring, and what the wheel holds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
PACKAGES = ("cups", "pseudo_labels", "refs", "studies")


def _parsed(lines: Iterable[str]) -> dict[str, str]:
    """Return {name of a package: its range of versions}."""
    requirements = [Requirement(line) for line in lines]
    assert len({each.name.lower() for each in requirements}) == len(requirements), "one line a package"
    return {each.name.lower(): str(each.specifier) for each in requirements}


def _lines(name: str) -> list[str]:
    """Return the lines of a requirements file without comments."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [line for line in lines if line]


def test_requirements_cups__are_the_dependencies_and_wandb() -> None:
    assert _parsed(_lines("requirements_cups.txt")) == _parsed([*PROJECT["dependencies"], *EXTRAS["wandb"]])


def test_requirements__are_everything_but_what_needs_a_compiler() -> None:
    lines = _lines("requirements.txt")
    assert lines[:2] == ["-r requirements_cups.txt", "-e ."]
    extras = [line for name in ("stage1", "fast", "heic", "slurm", "dev") for line in EXTRAS[name]]
    assert _parsed(lines[2:]) == _parsed(extras)
    assert set(EXTRAS) == {"stage1", "crf", "fast", "heic", "onnx", "slurm", "wandb", "dev"}


def test_requirements__every_range_has_both_ends() -> None:
    for line in [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]:
        operators = {each.operator for each in Requirement(line).specifier}
        assert operators == {">=", "<"}, line


def test_version__has_an_entry_in_the_changelog() -> None:
    newest = re.search(r"^## \[(\d[^]]*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest is not None and newest[1] == PROJECT["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]


def test_hooks__are_local_and_ci_runs_the_script() -> None:
    """Neither fetches anything: hooks use the project's environment, CI the README's command."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [entry["repo"] for entry in hooks["repos"]] == ["local"]
    assert {hook["language"] for entry in hooks["repos"] for hook in entry["hooks"]} == {"system"}
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands == ["bash .ci/run"]


@pytest.fixture(scope="module")
def wheel(make_folder: Callable[[str], Path]) -> Path:
    """Build the wheel of a copy of the sources, without network."""
    copy, output = make_folder("sources"), make_folder("wheel")
    for folder in (*PACKAGES, "configs"):
        unwanted = shutil.ignore_patterns("__pycache__", "backbone_checkpoints", "checkpoints", "CAUSE")
        shutil.copytree(ROOT / folder, copy / folder, ignore=unwanted)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(output), str(copy)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (built,) = output.glob("*.whl")
    return built


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_wheel__holds_every_module_and_what_they_read(wheel: Path) -> None:
    names = _names(wheel)
    kinds = (".py", ".pyi", ".yaml", ".json", ".pth")
    skipped = ("backbone_checkpoints", "checkpoints", "CAUSE", "__pycache__")
    wanted = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.suffix in kinds and not set(file.relative_to(ROOT).parts) & set(skipped)
    }
    assert {"refs/weights.yaml", "refs/spidepth/toy/depth.pth", "refs/spidepth/toy/settings.json"} <= wanted
    assert wanted <= names, sorted(wanted - names)
    configs = {f"cups/{file.relative_to(ROOT).as_posix()}" for file in (ROOT / "configs").rglob("*.yaml")}
    assert configs <= names and len(configs) > 10
    others = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert others == set(PACKAGES), "nothing else lands beside other people's packages"


def test_wheel__says_what_it_needs(wheel: Path) -> None:
    metadata = _metadata(wheel)
    assert metadata["Version"] == PROJECT["version"] and metadata["License-Expression"] == "Apache-2.0"
    needed = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    assert {each.name.lower() for each in needed if not each.marker} == set(_parsed(PROJECT["dependencies"]))
    assert set(metadata.get_all("Provides-Extra", [])) == set(EXTRAS)
    versions = Requirement(f"x{metadata['Requires-Python']}").specifier
    assert [v for v in ("3.9", "3.10", "3.12", "3.13", "3.14") if v in versions] == ["3.10", "3.12"]


def test_wheel__an_installed_user_names_a_config(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere and imported from there, the package finds its own configs."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "import cups, cups.config; print(cups.__file__, cups.config.build_config('val_kitti.yaml').DATA)"
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": ""}
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(str(tmp_path / "site"))
