"""One network on a folder of data sets: what is found, the table, what is done again, what cannot be read."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import val
from cups.builders import data_sets
from cups.builders.data_sets import set_config, sets_below
from cups.builders.evaluation import EvaluatedNetwork
from cups.config import (
    VAL_FLAGS,
    add_config_arguments,
    build_config,
    config_like,
    make_parser,
    parse_args,
)
from cups.errors import UserError
from cups.io.checkpoint import Checkpoint
from cups.io.model_folder import WEIGHTS_FILE, weights_file
from cups.set_files import find_set
from cups.structures import PseudoClasses
from tests.data_sets import WRITERS, picture, save

PSEUDO = PseudoClasses(things=2, stuffs=5)
LEVELS = {0: 0, 1: 1, 2: 2, 5: 3, 7: 4, 3: 5, 6: 6}
"""Grey level of the miniatures -> category; the pixels without a label have a level of their own."""


class ByGrey(nn.Module):
    """Finds the classes of the miniatures by their grey levels; what touches is one object."""

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self._output(item["image"]) for item in batch]

    def _output(self, image: torch.Tensor) -> dict[str, Any]:
        levels = ((image[0] * 255 - 20) / 25).round().long()
        ids, segments = torch.zeros(levels.shape, dtype=torch.int32), []
        for level, category in LEVELS.items():
            thing = category >= PSEUDO.stuffs
            index = category - PSEUDO.stuffs if thing else category + 1
            segments.append({"id": len(segments) + 1, "isthing": thing, "category_id": index})
            ids[levels == level] = len(segments)
        return {"panoptic_seg": (ids, segments), "sem_seg": torch.zeros(PSEUDO.stuffs + 1, *levels.shape)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("bdd", "waymo", "mots", "cityscapes"):
        WRITERS[name](tmp_path / "sets" / find_set(name).folder)
    return tmp_path / "sets"


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that stands for a network, which `ByGrey` is."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(b"weights")
    monkeypatch.setattr(data_sets, "load_for_evaluation", stand_in)
    return path


def stand_in(config: Any) -> EvaluatedNetwork:
    return EvaluatedNetwork(ByGrey(), PSEUDO, Checkpoint(weights_file(config.MODEL.CHECKPOINT), {}))


def run(folder: Path, checkpoint: Path, output: Path, *more: str) -> int:
    words = ["--data_sets", folder, "--checkpoint", checkpoint, "--output_dir", output, "--num_workers", 0]
    return val.main([*map(str, words), *more, "DATA.VAL_CROP_RESOLUTION", "None"])


def test_evaluate_data_sets__a_table_beside_published_numbers(
    folder: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, checkpoint, tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert told == (tmp_path / "out/data_sets.md").read_text()
    lines = {
        line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]]
        for line in told.splitlines()
        if "|" in line
    }
    assert lines["data set"] == [
        "frames",
        "PQ",
        "things",
        "stuff",
        "mIoU",
        "CUPS's rule",
        "CUPS",
        "best before CUPS",
    ]
    assert lines["Waymo"][0] == "2" and lines["Waymo"][-2:] == ["26.4", "19.8"]
    assert lines["BDD100K"][0] == "2 of 1000" and lines["MOTS"][-2:] == ["67.8", "50.7"]
    assert "- BDD100K (2 of 1000), Cityscapes (2 of 500), MOTS (2 of 2862): fewer frames were there" in told
    assert "- CUPS: Hahn et al., CVPR 2025" in told and "- bdd val: panoptic, 19 classes of bdd-19" in told
    content = json.loads((tmp_path / "out/data_sets.json").read_text())["data_sets"]
    rows = {one["name"]: one for one in content}
    stuff = rows["bdd"]["metrics"]["standard"]["pq_stuff"]
    assert stuff == pytest.approx(1.0), "five classes of stuff, each found by its level"
    assert rows["waymo"]["metrics"]["standard"]["pq_stuff"] == pytest.approx(1.0), (
        "absent classes count for nothing"
    )
    assert rows["bdd"]["published"][0] == {
        "method": "CUPS", "pq": pytest.approx(0.199), "void_rule": "upstream",
        "source": "Hahn et al., CVPR 2025; Table 1 of github.com/visinf/cups",
    }  # fmt: skip
    with (tmp_path / "out/data_sets.csv").open() as file:
        cells = [row for row in csv.DictReader(file) if row["data set"] == "bdd" and row["metric"] == "pq"]
    assert [row["source"] for row in cells] == ["this checkpoint"] * 2 + ["CUPS", "best before CUPS"]
    assert float(cells[0]["value"]) == pytest.approx(rows["bdd"]["metrics"]["standard"]["pq"])


def test_evaluate_data_sets__goes_on_after_a_kill(
    folder: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is scored is not scored again; another network, or other frames, are."""
    scored: list[str] = []
    score = data_sets.score_network

    def count(*args: Any) -> Any:
        scored.append(args[3].name)
        return score(*args)

    monkeypatch.setattr(data_sets, "score_network", count)
    run(folder, checkpoint, tmp_path / "out", "--only", "bdd")
    run(folder, checkpoint, tmp_path / "out", "--only", "bdd,mots")
    assert scored == ["bdd", "mots"]
    checkpoint.write_bytes(b"others")
    run(folder, checkpoint, tmp_path / "out", "--only", "mots")
    assert scored == ["bdd", "mots", "mots"]
    save(folder / "MOTSChallenge/train/images/0002/000003.jpg", picture(0))
    (folder / "MOTSChallenge/train/instances/0002/000003.png").write_bytes(
        (folder / "MOTSChallenge/train/instances/0002/000001.png").read_bytes()
    )
    run(folder, checkpoint, tmp_path / "out", "--only", "mots")
    assert scored == ["bdd", "mots", "mots", "mots"]


def test_evaluate_data_sets__an_incomplete_set_is_a_line_and_the_rest_is_scored(
    folder: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = folder / "MOTSChallenge/train/instances/0002/000002.png"
    missing.unlink()
    with pytest.raises(
        UserError, match=rf"1 data set was not scored: MOTS: {missing}: no such file \(1 of 2"
    ):
        run(folder, checkpoint, tmp_path / "out", "--only", "bdd,mots")
    told = capsys.readouterr().out
    assert f"- MOTS was not scored: {missing}: no such file" in told and "| BDD100K  | 2 of 1000" in told


def test_evaluate_data_sets__a_published_folder_is_a_checkpoint(
    folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """`val.py --data_sets` said of the folder that scripts/export.py writes: no such file."""
    published = tmp_path / "published"
    published.mkdir()
    checkpoint.rename(published / WEIGHTS_FILE)
    assert run(folder, published, tmp_path / "out", "--only", "bdd") == 0
    told = json.loads((tmp_path / "out" / "bdd" / "results.json").read_text())["results"][0]["checkpoint"]
    assert told["path"] == str(published / WEIGHTS_FILE)


def test_evaluate_data_sets__without_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.ckpt: no such file; give a checkpoint with `checkpoint`"):
        run(folder, tmp_path / "none.ckpt", tmp_path / "out")
    with pytest.raises(UserError, match=r"MODEL\.CHECKPOINT is not set"):
        val.main(["--data_sets", str(folder), "--output_dir", str(tmp_path / "out")])


@pytest.mark.parametrize("words", [["--only", "bdd"], ["--data_sets", ".", "--data_root", "."]])
def test_data_sets__flags_that_do_not_go_together(words: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        val.main(words)


def config_of(file: Path | None, keys: dict[str, Any], pairs: Sequence[str] = ()) -> Any:
    return build_config(file, [*(part for pair in keys.items() for part in pair), *pairs])


def test_set_config__the_shipped_one_and_ones_own(folder: Path) -> None:
    shipped = set_config(find_set("bdd"), folder, config_of)
    assert tuple(shipped.DATA.VAL_CROP_RESOLUTION) == (720, 1280) and shipped.DATA.VAL_SCALE == 1.0
    assert ("bdd", str(folder / "bdd100k")) == (shipped.DATA.DATASET, shipped.DATA.ROOT_VAL)
    told = set_config(find_set("bdd"), folder, partial(config_of, pairs=("DATA.VAL_SCALE", "0.5")))
    assert told.DATA.VAL_SCALE == 0.5, "the command line wins"
    (folder / "farm.yaml").write_text(
        "layout: {images: '{frame}.jpg', labels: '{frame}.png'}\nreader: {category: L}\nfolder: cows\n"
    )
    (folder / "classes.yaml").write_text("classes: [{id: 1, name: cow, thing: true}]\n")
    (folder / "cows").mkdir()
    own = next(one for one in sets_below(folder) if one.name == "farm")
    config = set_config(own, folder, config_of)
    assert str(folder / "farm.yaml") == config.DATA.DATASET and str(folder / "cows") == config.DATA.ROOT_VAL


def test_set_config__ones_own_set_is_scored_at_full_resolution(folder: Path) -> None:
    """Without a config of its own it had the default of training, half the size."""
    parser = make_parser("")
    add_config_arguments(parser, VAL_FLAGS, "val.py")
    args, _ = parse_args(parser, ["DATA.NUM_CLASSES", "7"])
    config = config_like(args, None, {"DATA.DATASET": "bdd", "DATA.ROOT_VAL": str(folder)})
    assert (config.DATA.VAL_SCALE, config.DATA.DATASET, config.DATA.NUM_CLASSES) == (1.0, "bdd", 7)


def test_sets_below__nothing_there_and_names(folder: Path, tmp_path: Path) -> None:
    assert [one.name for one in sets_below(folder)] == ["bdd", "cityscapes", "mots", "waymo"]
    with pytest.raises(UserError, match="`only` bbd: no such data set; choose from bdd, cityscapes"):
        sets_below(folder, ["bbd"])
    with pytest.raises(
        UserError, match=r"sets/muses: no such folder \(MUSES, clear day\); the data sets lie in"
    ):
        sets_below(folder, ["bdd", "muses"])
    with pytest.raises(UserError, match="nowhere: no such folder; give the folder that the data sets lie in"):
        sets_below(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="the data sets lie in Cityscapes, MOTSChallenge, bdd100k"):
        sets_below(tmp_path / "empty")
