"""The soak's own eyes: what it calls equal, and what it finds left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cups.io.checkpoint import write_file
from cups.io.files import write_json
from studies import soak_runs


def test_differences__bytes_and_tensors(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, loops, weight in ((one, 1, 1.0), (other, 2, 1.0)):
        held = {"state_dict": {"w": torch.tensor(weight)}, "loops": loops}
        write_file(folder / "checkpoints" / "last.ckpt", held)
        write_json(folder / "provenance.json", {"code_version": loops, "seed": 0})
        (folder / "map.png").write_bytes(b"png")
        (folder / ".writer").write_text(str(loops))
        (folder / "csv").mkdir()
        (folder / "csv" / "metrics.csv").write_text(str(loops))
    files = soak_runs.files_of(one)
    assert sorted(map(str, files)) == ["checkpoints/last.ckpt", "map.png", "provenance.json"]
    assert soak_runs.differences(files, one, other) == []
    write_file(one / "checkpoints" / "last.ckpt", {"state_dict": {"w": torch.tensor(2.0)}})
    write_json(one / "provenance.json", {"code_version": 1, "seed": 1})
    (one / "map.png").unlink()
    told = ["checkpoints/last.ckpt: differs", "map.png: missing", "provenance.json: differs"]
    assert soak_runs.differences(files, one, other) == told


def test_left_behind__finds_a_child_that_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak_runs, "LEFT_SECONDS", 0.1)
    code = (
        "import subprocess, sys;"
        "p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(3)']); print(p.pid)"
    )
    argv = [sys.executable, "-S", "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.wait()
        assert soak_runs._left_behind(process.pid)
    assert not soak_runs._alive(2**22 - 1)
