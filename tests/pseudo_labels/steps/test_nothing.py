"""A step that found nothing: cause, picture and exit code, and how to go on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cups.errors import NothingFound, UserError, run_main
from cups.io.png import read_ids, write_png
from pseudo_labels import convert_to_cups_format, pipeline
from pseudo_labels.generate_depth_guided_instances import main as make_instances
from pseudo_labels.steps import executor
from pseudo_labels.steps.nothing import require_instances
from pseudo_labels.steps.stage1 import Command


def instances(root: Any, *more: str) -> int:
    folder = ("--semantic_subdir", "pseudo_semantic_mapped_k300")
    return make_instances(["--cityscapes_root", str(root.path), *folder, "--no_depth", *more])


def test_make_instances__of_classes_that_no_image_has(tiny_root: Any) -> None:
    with pytest.raises(
        NothingFound, match=r"instances in 0 of 2 images \(least: 5 %\); .*add `accept_nothing`"
    ):
        instances(tiny_root, "--thing_classes", "17")
    folder = tiny_root.path / "pseudo_instance_cc_mapped_k300"
    assert len(list(folder.rglob("aachen_*.png"))) == 2 and (folder / "nothing_found.png").is_file()
    for flags in (("--accept_nothing",), ("--least_found", "0")):
        assert instances(tiny_root, "--thing_classes", "17", *flags) == 0


def test_require_instances__one_image_in_twenty(tiny_root: Any) -> None:
    """Exactly 5 % is enough; one file fewer is not."""
    from pseudo_labels.steps.frames import Folder, Frame

    output = Folder(tiny_root.path, "made", ".png")
    frames = [Frame(f"{i:02}", Path("a"), Path(f"{i}.png")) for i in range(21)]
    for index, frame in enumerate(frames):
        write_png(output.path(frame), np.full((4, 4), int(index == 0), np.uint16))

    def show(frame: Frame) -> list[np.ndarray]:
        return [np.repeat(read_ids(output.path(frame)).astype(np.uint8)[..., None], 3, axis=2)]

    require_instances(output, frames[:20], 0.05, show, accepted=False)
    with pytest.raises(NothingFound, match="instances in 1 of 21 images"):
        require_instances(output, frames, 0.05, show, accepted=False)


def test_convert__with_stuff_alone_where_that_is_accepted(tiny_root: Any) -> None:
    """A split without things goes through the whole chain on demand; without it, each step says so."""
    from pseudo_labels.inputs.labels import write_split

    folder = tiny_root.path / "pseudo_semantic_mapped_k300"
    write_split(folder / "thing_stuff_split.json", {"things": [], "stuffs": list(range(19))})
    with pytest.raises(NothingFound, match="names no thing"):
        instances(tiny_root)
    root = ["--cityscapes_root", str(tiny_root.path), "--trainid_input", "--semantic_subdir", folder.name]
    root += ["--instance_subdir", "pseudo_instance_cc_mapped_k300"]
    assert instances(tiny_root, "--accept_nothing") == 0
    with pytest.raises(NothingFound, match="names no thing"):
        convert_to_cups_format.main(root)
    assert convert_to_cups_format.main([*root, "--accept_nothing"]) == 0


def test_run_main__exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for error, code in ((NothingFound("x: nothing; add `accept_nothing`"), 3), (UserError("x: wrong"), 2)):

        def fail(error: UserError = error) -> int:
            raise error

        with pytest.raises(SystemExit) as caught:
            run_main(fail)
        assert caught.value.code == code
    assert capsys.readouterr().err == "error: x: nothing; add --accept_nothing\nerror: x: wrong\n"


class Job:
    """A finished job of submitit."""

    job_id, num_tasks = "42", 1

    def __init__(self, result: tuple[int, str] | None) -> None:
        self.outcome = result
        self.paths = SimpleNamespace(stderr=Path("log.err"))

    def task(self, _: int) -> Job:
        return self

    def result(self) -> tuple[int, str] | None:
        return self.outcome


@pytest.mark.parametrize(
    ("codes", "expected"), [((None, 3), 3), ((3, 2), 2), ((None, None), 0), ((2, None), 2)]
)
def test_executor__nothing_found_is_carried_out_of_the_shards(
    codes: tuple[int | None, ...], expected: int
) -> None:
    pytest.importorskip("submitit")
    jobs = [Job(None if code is None else (code, "x")) for code in codes]
    assert executor._exit_code(jobs, {}) == expected


def test_pipeline__carries_the_code_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """run_stage1.sh ends with the code of the step that found nothing, and runs no step behind it."""
    steps = [Command("found nothing", "a.py", ()), Command("never run", "b.py", ())]
    settings = SimpleNamespace(dry_run=False, check=False, root=tmp_path, executor=None)
    monkeypatch.setattr(pipeline, "commands_of", lambda argv: (steps, settings))
    monkeypatch.setattr("pseudo_labels.preflight.report.preflight", lambda *_, **__: "")
    ran = []
    monkeypatch.setattr(
        Command, "line", lambda self, python: ran.append(self) or [python, "-c", "raise SystemExit(3)"]
    )
    assert pipeline.main([]) == 3 and ran == steps[:1]
    script = Path(pipeline.__file__).parents[1] / "scripts" / "run_stage1.sh"
    assert "exec " in script.read_text()  # its code is that of the pipeline
