"""Camera files that are damaged or impossible."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cups.errors import UserError
from pseudo_labels.inputs.cameras import read_intrinsics


@pytest.mark.parametrize("text", ("{", "{}", '{"intrinsic": {"fx": 1}}', "[]"))
def test_read_intrinsics__damaged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x_camera.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"x_camera\.json"):
        read_intrinsics(path)


def test_read_intrinsics__impossible(tmp_path: Path) -> None:
    path = tmp_path / "x_camera.json"
    path.write_text(json.dumps({"intrinsic": {"fx": 0.0, "fy": 58.0, "u0": 30.0, "v0": 14.0}}))
    with pytest.raises(UserError, match="positive"):
        read_intrinsics(path)
