"""The label-efficient curve: its commands, and the report of made-up results."""

from __future__ import annotations

from pathlib import Path

import pytest

from cups.errors import UserError
from studies.label_curve import Curve, CurveSettings, Point, draw, report
from tests.studies.test_demo_report import write_scores


def _curve(tmp_path: Path, **more: object) -> Curve:
    told = {"checkpoint": tmp_path / "self.ckpt", "data_root": tmp_path / "city", "output": tmp_path / "out"}
    return Curve(
        CurveSettings(**{**told, "fractions": (1.0, 0.01), "starts": ("checkpoint", "random"), **more})
    )


def test_commands__each_start_at_each_share(tmp_path: Path) -> None:
    commands = _curve(tmp_path, steps=7, trainable="heads").commands()
    assert [command.name for command in commands[:4]] == [
        "train checkpoint_1_percent_seed_0",
        "evaluate checkpoint_1_percent_seed_0",
        "train random_1_percent_seed_0",
        "evaluate random_1_percent_seed_0",
    ]
    assert len(commands) == 8
    first, _, random, _ = (" ".join(command.arguments) for command in commands[:4])
    assert f"--label_fraction 0.01 --trainable heads --checkpoint {tmp_path}/self.ckpt" in first
    assert "--resume_if_possible" in first and "TRAINING.STEPS 7" in first
    assert "--checkpoint" not in random and "MODEL.USE_DINO False" in random
    dino = _curve(tmp_path, starts=("dino",)).commands()[0].arguments
    assert "MODEL.USE_DINO True" in " ".join(dino) and "--checkpoint" not in dino


def test_commands__toy_streets_are_rendered_where_no_data_is_given(tmp_path: Path) -> None:
    assert _curve(tmp_path, data_root=None).commands()[0].script == "cups.data.toy_streets"


def test_settings__a_start_without_its_network(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`checkpoint`: missing"):
        CurveSettings(starts=("checkpoint",))
    CurveSettings(starts=("random", "dino"))


def test_report__table_differences_and_curve(tmp_path: Path) -> None:
    curve = _curve(tmp_path)
    found = {"checkpoint": {0.01: 0.6, 1.0: 0.9}, "random": {0.01: 0.2, 1.0: 0.9}}
    for point in curve.points:
        write_scores(curve.results(point), "results", found[point.start][point.fraction])
    text = report(curve)
    assert "| 1 %, our checkpoint, seed 0" in text and "| 100 %, random weights, seed 0" in text
    lines = [line for line in text.splitlines() if line.startswith("- ") and "interval" in line]
    assert "our checkpoint beats random weights" in lines[0] and lines[0].startswith("- 1 %, seed 0:")
    assert "does not differ beyond the interval from" in lines[1]
    draw(curve, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert Point("dino", 0.001, 3).name == "dino_0_1_percent_seed_3"
