"""A run on own images: each command is one that its script understands, in an order in which they can run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from studies.own_data.plan import Plan
from studies.own_data.settings import OwnDataSettings
from studies.own_data.steps import OwnDataRun, depth_feed

Parses = Callable[[str, Sequence[str]], None]


def run_of(
    folder: Path, depth: str = "none", video: bool = False, size: str = "small", **settings: Any
) -> OwnDataRun:
    """A run whose plan is made by hand."""
    (folder / "photos").mkdir(exist_ok=True)
    chosen = OwnDataSettings(input=folder / "photos", output=folder / "out", **settings)
    focal = 0.8 if depth == "video" else None
    images = (folder / "photos" / "1.png",)
    return OwnDataRun(chosen, Plan(images, (1080, 1920), video, 3, "texton", 120, depth, focal, size, ()))


VARIANTS: dict[str, dict[str, Any]] = {
    "photos": {},
    "photos, full": {"depth": "published", "size": "full", "max_images": 5},
    "video": {"depth": "video", "video": True, "steps": 10, "round_steps": 2},
    "video, full": {"depth": "video", "video": True, "size": "full"},
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_commands__each_parses(parses: Parses, tmp_path: Path, variant: dict[str, Any]) -> None:
    commands = run_of(tmp_path, **variant).commands()
    assert [command.name for command in commands][-3:] == ["Stage 2", "Stage 3", "predictions"]
    for command in commands:
        parses(command.script.removesuffix(".py").replace("/", "."), command.arguments)


def test_commands__depth_is_learnt_published_or_left_out(tmp_path: Path) -> None:
    names = {
        depth: [command.name for command in run_of(tmp_path, depth).commands()]
        for depth in ("none", "published", "video")
    }
    assert "depth" not in names["none"] and "things and stuff" in names["none"]
    assert "depth" in names["published"] and "depth network" not in names["published"]
    assert names["video"].index("depth network") < names["video"].index("depth")


def test_commands__a_video_is_taken_apart_only_for_a_training(tmp_path: Path) -> None:
    assert run_of(tmp_path, video=True).commands()[0].name == "frames"
    (tmp_path / "last.ckpt").touch()
    (only,) = run_of(tmp_path, video=True, checkpoint=tmp_path / "last.ckpt").commands()
    assert only.name == "predictions" and str(tmp_path / "last.ckpt") in only.arguments
    adapted = run_of(tmp_path, video=True, checkpoint=tmp_path / "last.ckpt", adapt=True).commands()
    assert [command.name for command in adapted] == ["frames", "Stage 3", "predictions"]
    assert str(tmp_path / "out" / "stage3" / "checkpoints" / "best.ckpt") in adapted[-1].arguments


def test_commands__flags_of_the_user_come_last(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    further = {"classify_stuff_things": ("--threshold", "0.2")}
    commands = OwnDataRun(run.settings, run.plan, ("TRAINING.STEPS", "7"), further).commands()
    by_name = {command.name: command.arguments for command in commands}
    assert by_name["things and stuff"][-2:] == ("--threshold", "0.2")
    assert by_name["Stage 2"][-2:] == ("TRAINING.STEPS", "7")


@pytest.mark.parametrize(
    ("size", "pixels", "feed"),
    [
        ((1080, 1920), 192 * 384, (192, 352)),
        ((375, 1242), 320 * 1024, (320, 1056)),
        ((4000, 3000), 9216, (96, 96)),
    ],
)
def test_depth_feed__keeps_the_shape_in_multiples_of_32(
    size: tuple[int, int], pixels: int, feed: tuple[int, int]
) -> None:
    assert depth_feed(size, pixels) == feed
