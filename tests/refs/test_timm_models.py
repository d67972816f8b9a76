"""What a process leaves behind that builds networks of timm."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

BUILD_AND_DIE = """
import os, sys
from refs.timm_models import create_model
print(sum(p.numel() for p in create_model("resnet18", pretrained=False).parameters()))
assert "wandb" not in sys.modules
from importlib.util import find_spec
print(find_spec("wandb") is not None)
os._exit(0)
"""


def test_create_model__leaves_no_temporary_folder(tmp_path: Path) -> None:
    """Workers end without clean-up: what timm's import of W&B made stayed, two folders a process."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(root)}
    run = subprocess.run(
        [sys.executable, "-c", BUILD_AND_DIE], capture_output=True, text=True, check=True, env=environment
    )
    installed = str(find_spec("wandb") is not None)
    assert run.stdout.split() == ["11689512", installed], "and whoever logs to W&B can still import it"
    # torch itself keeps one cache folder for all runs of a user.
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("torchinductor_")] == []
