"""The pure-Python wheel: only modules, only from the archive that was asked for."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _archive(path: Path, files: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"pb1-detectron2-0.6/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _build(archive: Path, digest: str, output: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "scripts" / "build_detectron2_wheel.py"
    command = [sys.executable, str(script), str(archive), "--sha256", digest, "--output", str(output)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_build__takes_python_modules_only(tmp_path: Path) -> None:
    files = {"detectron2/__init__.py": b"x = 1\n", "detectron2/layers/csrc/a.cu": b"//", "setup.py": b"boom"}
    digest = _archive(tmp_path / "a.tar.gz", files)
    run = _build(tmp_path / "a.tar.gz", digest, tmp_path / "out")
    assert run.returncode == 0, run.stderr
    with zipfile.ZipFile(run.stdout.strip()) as wheel:
        assert [name for name in wheel.namelist() if "dist-info" not in name] == ["detectron2/__init__.py"]
        assert "Name: detectron2" in wheel.read("detectron2-0.6.dist-info/METADATA").decode()


def test_build__refuses_another_archive(tmp_path: Path) -> None:
    _archive(tmp_path / "a.tar.gz", {"detectron2/__init__.py": b""})
    run = _build(tmp_path / "a.tar.gz", "0" * 64, tmp_path / "out")
    assert run.returncode == 2 and "sha256" in run.stderr and len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
