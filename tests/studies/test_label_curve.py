"""The label-efficient curve: its commands, and the report of made-up results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from yacs.config import CfgNode

from cups.builders.stage2 import find_backbone_checkpoint
from cups.config import TRAIN_FLAGS, add_config_arguments, add_resume_arguments, make_parser, parse_args
from cups.errors import UserError
from studies import label_efficient
from studies.label_curve import Curve, CurveSettings, Point, draw, report
from studies.measure import StepRecord, config_digests
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
    assert (
        "All starts take the same 40 steps" in text
        and "| 1 %, our checkpoint, seed 0" in text
        and "| 100 %, random weights, seed 0" in text
    )
    lines = [line for line in text.splitlines() if line.startswith("- ") and "interval" in line]
    assert "our checkpoint beats random weights" in lines[0] and lines[0].startswith("- 1 %, seed 0:")
    assert "does not differ beyond the interval from" in lines[1]
    draw(curve, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert Point("dino", 0.001, 3).name == "dino_0_1_percent_seed_3"


def _config(arguments: Sequence[str]) -> CfgNode:
    """Return the configuration that train.py makes of a command."""
    parser = make_parser("")
    add_config_arguments(parser, TRAIN_FLAGS, "train.py")
    add_resume_arguments(parser)
    return parse_args(parser, arguments)[1]


def test_commands__train_reads_them(tmp_path: Path) -> None:
    """Each start is what it is called: the checkpoint, weights of DINO, or neither."""
    curve = _curve(tmp_path, starts=("checkpoint", "dino", "random"), fractions=(0.1,), steps=7, seeds=(3,))
    ours, dino, random = (_config(command.arguments) for command in curve.commands()[::2])
    for config in (ours, dino, random):
        assert config.DATA.GROUND_TRUTH and config.DATA.LABEL_FRACTION == 0.1
        assert (7, 3, str(curve.data)) == (config.TRAINING.STEPS, config.SYSTEM.SEED, config.DATA.ROOT)
    assert str(tmp_path / "self.ckpt") == ours.MODEL.CHECKPOINT and not ours.MODEL.USE_DINO
    assert random.MODEL.CHECKPOINT is None and find_backbone_checkpoint(random) is None
    assert dino.MODEL.CHECKPOINT is None and dino.MODEL.USE_DINO
    dino.defrost()
    dino.MODEL.BACKBONE_CHECKPOINT = str(tmp_path / "dino.pkl")
    with pytest.raises(UserError, match=r"dino\.pkl: no such file, the weights of resnet50"):
        find_backbone_checkpoint(dino)


def test_main__goes_on_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands are stand-ins that score; the second start runs only what the first did not."""
    curve, ran = _curve(tmp_path, fractions=(1.0,)), list[str]()

    def stand_in(line: Sequence[str], name: str, **_: Any) -> StepRecord:
        if len(ran) == 3:
            ran.append("killed")
            raise KeyboardInterrupt
        ran.append(name)
        if name.startswith("evaluate"):
            place = Path(line[line.index("--output_dir") + 1])
            write_scores(place, "results", 0.9 if "checkpoint" in name else 0.2)
        return StepRecord(name, 1.0, 1.0, tuple(line), config_digests(line))

    monkeypatch.setattr("studies.commands.run_measured", stand_in)
    told = ("--checkpoint", "self.ckpt", "--data_root", "city", "--output", "out")
    flags = [str(tmp_path / word) if not word.startswith("--") else word for word in told]
    with pytest.raises(KeyboardInterrupt):
        label_efficient.main([*flags, "--fractions", "1.0"])
    assert not (curve.output / "report.md").exists()
    assert label_efficient.main([*flags, "--fractions", "1.0"]) == 0
    assert [name for name in ran if name != "killed"] == [command.name for command in curve.commands()]
    text = (curve.output / "report.md").read_text()
    assert "our checkpoint beats random weights" in text and text in capsys.readouterr().out
    assert (curve.output / "curve.png").stat().st_size > 1000
