"""scripts/export.py as a user runs it: all that it writes, and what a graph says with its companions."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import export
import numpy as np
import pytest
import torch

import cups
from cups.errors import UserError
from tests.cups.conftest import TINY, make_tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "last.ckpt"
    overrides = [*TINY, "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_FRACTION", 0.0]
    state = make_tiny(*overrides[len(TINY) :]).state_dict()
    model = {"model_config": "Panoptic-Cascade-Mask-R-CNN-Small.yaml", "model_overrides": overrides}
    torch.save({"state_dict": state, "hyper_parameters": {"model": model, "working_size": [48, 64]}}, path)
    return path


def test_main__folder_and_graph(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--checkpoint", str(saved), "--output", str(tmp_path), "--confidence", "0.05"]
    with torch.jit.optimized_execution(False):  # its first runs are looked at and rewritten
        assert export.main(flags) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("model", "network.json", "network.ts", "postprocess.py")
    ]
    assert "outputs equal the network's to" in capsys.readouterr().out
    about = json.loads((tmp_path / "network.json").read_text())
    assert about["input"]["shape"] == [48, 64, 3]
    assert [c["name"] for c in about["categories"]] == ["stuff 0", "stuff 1", "stuff 2", "stuff 3"] + [
        *("thing 0", "thing 1", "thing 2")
    ]
    spec = importlib.util.spec_from_file_location("postprocess", tmp_path / "postprocess.py")
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(beside := importlib.util.module_from_spec(spec))
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    graph = torch.jit.load(str(tmp_path / "network.ts"))
    outputs = [part.detach().numpy() for part in graph(torch.from_numpy(pixels))]
    ids, segments = beside.panoptic_of(outputs, (48, 64), about["merge"])
    expected = cups.load(tmp_path / "model", confidence_threshold=0.05).predict(pixels)
    assert len(segments) == len(expected.segments) > 1
    names = {segment["id"]: about["categories"][segment["category"]]["name"] for segment in segments}
    named = np.vectorize(lambda number: names.get(number, "void"))(ids)
    wanted = np.append(expected.categories.names, "void")[np.minimum(expected.semantic, 7)]
    assert (named == wanted).mean() > 0.999


def test_main__no_working_size_is_one_line(saved: Path, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=True)
    del content["hyper_parameters"]["working_size"]
    torch.save(content, tmp_path / "old.ckpt")
    with pytest.raises(UserError, match="give `working_size`"):
        export.main(["--checkpoint", str(tmp_path / "old.ckpt"), "--output", str(tmp_path / "out")])
    with pytest.raises(UserError, match=r"`confidence` 2\.0: must lie in 0-1"):
        export.main(["--checkpoint", "x", "--output", "y", "--confidence", "2"])
