"""How a step runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from cups.errors import UserError
from pseudo_labels.settings.groups import Inference
from pseudo_labels.steps.flags import Settings, flag
from pseudo_labels.steps.frames import FrameSource
from pseudo_labels.steps.options import FrameRun, NetworkRun, ShardRun, Submission, parse_step


@dataclass(frozen=True)
class Shade(Settings):
    """Shade."""

    darkness: float = flag(0.5, "how dark")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.darkness < 0:
            raise UserError(f"`darkness` {self.darkness}: must be positive")


def test_parse_step__three_objects() -> None:
    source, run, settings = parse_step(
        "", ["--cityscapes_root", "x", "--darkness", "1", "--show", "3"], FrameRun, Shade
    )
    assert source == FrameSource(cityscapes_root=Path("x"))
    assert run == FrameRun(show=3) and settings == Shade(darkness=1.0)


def test_parse_step__submission_after_every_check() -> None:
    flags = ["--cityscapes_root", "x", "--executor", "local", "--num_shards", "3"]
    with pytest.raises(Submission, match="`executor` local: this step runs as one process") as raised:
        parse_step("", flags, FrameRun, Shade)
    assert raised.value.frames == FrameSource(cityscapes_root=Path("x"))
    assert raised.value.run == FrameRun(num_shards=3, executor="local") and raised.value.device == "cpu"
    with pytest.raises(UserError, match=r"^`darkness` -1.0") as refused:
        parse_step("", [*flags, "--darkness", "-1"], FrameRun, Shade)
    assert not isinstance(refused.value, Submission)
    with pytest.raises(Submission) as raised:
        parse_step("", [*flags, "--device", "cuda:1"], NetworkRun, Inference)
    assert raised.value.device == "cuda:1" and raised.value.run.slurm_gpus == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_shards": 0}, "^`num_shards` 0: must be at least 1"),
        ({"num_shards": 2, "shard": 2}, "^`shard` 2: must be between 0 and `num_shards` - 1 = 1"),
        ({"shard": -1}, "^`shard` -1"),
        ({"executor": "cloud"}, "^`executor` cloud: unknown; choose from none, local, slurm"),
    ],
)
def test_shard_run__impossible_values(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ShardRun(**values)  # type: ignore[arg-type]


def test_redoes_all__not_one_shard_of_several() -> None:
    assert ShardRun(overwrite=True).redoes_all and not ShardRun().redoes_all
    assert not ShardRun(overwrite=True, num_shards=2).redoes_all
    assert ShardRun(overwrite=True, num_shards=2, run_id="a").redoes_all


def test_root__plain_folders_need_one(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    source, plain = FrameSource(cityscapes_root=tmp_path), FrameSource(image_dir=images)
    assert FrameRun().root(source) == tmp_path
    assert FrameRun(output_root=tmp_path / "out").root(plain) == tmp_path / "out"
    with pytest.raises(UserError, match="`output_root`: missing; it is needed with `image_dir`"):
        FrameRun().root(plain)
    for inside in (images, images / "out", tmp_path / "out" / ".." / "images" / "out"):
        with pytest.raises(UserError, match=r"lies inside the images .*; give `output_root` a folder"):
            FrameRun(output_root=inside).root(plain)
