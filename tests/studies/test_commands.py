"""Steps: what is done is remembered, what changed is run again."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cups.errors import UserError
from cups.io.files import write_json
from pseudo_labels.steps.stage1 import Command
from studies.commands import check_streets, plan, record_path, recorded, run_steps, toy_streets
from studies.measure import StepRecord
from studies.toy_settings import FRAMES

ROOT = Path(__file__).resolve().parents[2]


def _append(counter: Path, name: str, text: str = "x") -> Command:
    """A step that leaves a trace of each run: `python -m timeit` runs its code once, without a shell."""
    code = f"open({str(counter)!r}, 'a').write({text!r})"
    return Command(name, "timeit", ("-n", "1", "-r", "1", code))


def test_run_steps__runs_each_once(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    steps = [_append(counter, "first", "1"), _append(counter, "second", "2")]
    records = run_steps(steps, tmp_path / "steps")
    assert counter.read_text() == "12"
    assert [record.name for record in records] == ["first", "second"]
    assert all(record.seconds > 0 and record.peak_memory_mb > 1 for record in records)

    assert run_steps(steps, tmp_path / "steps") == records
    assert counter.read_text() == "12"


def test_run_steps__a_step_put_in_before_others_runs_alone(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    run_steps([_append(counter, "late", "2")], tmp_path / "steps")
    run_steps([_append(counter, "early", "1"), _append(counter, "late", "2")], tmp_path / "steps")
    assert counter.read_text() == "21"


def test_run_steps__other_arguments_run_again(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    run_steps([_append(counter, "step", "1")], tmp_path / "steps")
    run_steps([_append(counter, "step", "2")], tmp_path / "steps")
    assert counter.read_text() == "12"


@pytest.mark.parametrize(
    ("done", "asked", "same"),
    [
        ("--root r --split val --ids 1 2", "--split val --ids 1 2 --root r", True),
        ("--root r --split val", "--split val", False),
        ("--root r --raw", "--root r", False),
        ("--ids 1 2", "--ids 2 1", False),
        ("--k 1 --k 2", "--k 2 --k 1", False),  # the later wins
        ("--root r A.B 1 C.D 2", "--root r C.D 2 A.B 1", False),
        ("--root r --num_workers 1", "--num_workers 8 --root r", True),
        ("--num_workers 1 A.B 1", "--num_workers 1 A.B 2", False),
    ],
)
def test_recorded__another_order_of_flags_is_the_same_command(
    tmp_path: Path, done: str, asked: str, same: bool
) -> None:
    record = StepRecord("step", 1.0, 1.0, ("python", "old/place/script.py", *done.split()))
    command = Command("step", "script.py", tuple(asked.split()))
    record.write_json(record_path(command, tmp_path))
    assert recorded(command, tmp_path) == (record if same else None)


def test_recorded__a_flag_that_was_never_read_is_not_missed(tmp_path: Path) -> None:
    """Demo folders of before: `--seed` decided nothing in this script, in others it does."""
    for script, same in (("generate_semantic_pseudolabels_cause", True), ("train_cause", False)):
        command = Command("step", f"pseudo_labels/{script}.py", ("--split", "all"))
        record = StepRecord("step", 1.0, 1.0, ("python", script, "--split", "all", "--seed", "0"))
        record.write_json(record_path(command, tmp_path))
        assert (recorded(command, tmp_path) is not None) == same


def test_run_steps__an_edited_configuration_file_runs_again(tmp_path: Path) -> None:
    counter, config, script = (tmp_path / name for name in ("counter", "a.yaml", "count.py"))
    script.write_text(f"open({str(counter)!r}, 'a').write('x')")
    step = Command("train", str(script), ("--config", str(config)))
    config.write_text("STEPS: 1")
    run_steps([step], tmp_path / "steps")
    run_steps([step], tmp_path / "steps")
    assert counter.read_text() == "x"
    config.write_text("STEPS: 2")
    run_steps([step], tmp_path / "steps")
    assert counter.read_text() == "xx"


def test_run_steps__two_processes_run_a_shared_step_once(tmp_path: Path) -> None:
    """`make_reports --seeds 0` and `--seeds 1` at once: the second waits for the data, and takes them."""
    counter, script = tmp_path / "counter", tmp_path / "slow.py"
    script.write_text(
        "import sys, time\n"
        f"open({str(counter)!r}, 'a').write(sys.argv[1])\n"
        "time.sleep(float(sys.argv[2]))\n"
        f"open({str(counter)!r}, 'a').write(sys.argv[1])\n"
    )
    code = (
        "import sys; from pathlib import Path\n"
        "from pseudo_labels.steps.stage1 import Command; from studies.commands import run_steps\n"
        f"shared = Command('data', {str(script)!r}, ('d', '1'))\n"
        f"own = Command('seed ' + sys.argv[1], {str(script)!r}, (sys.argv[1], '0'))\n"
        f"run_steps([shared, own], Path({str(tmp_path / 'steps')!r}))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, seed], cwd=ROOT) for seed in "12"]
    assert [process.wait() for process in running] == [0, 0]
    assert counter.read_text().startswith("dd") and sorted(counter.read_text()) == sorted("dd1122")


def test_plan__lists_what_is_missing(tmp_path: Path) -> None:
    first, second = (_append(tmp_path / "counter", name) for name in ("first", "second"))
    run_steps([first], tmp_path / "steps")
    lines = plan([first, second], tmp_path / "steps").splitlines()
    assert lines[:2] == ["# first: done before", "# second"] and len(lines) == 3
    assert shlex.split(lines[2]) == second.line()
    assert (tmp_path / "counter").read_text() == "x", "nothing was run"


def test_toy_streets__has_frames_enough_for_an_interval(tmp_path: Path) -> None:
    given = toy_streets(tmp_path).arguments
    values = dict(itertools.pairwise(given))
    assert (int(values["--train_frames"]), int(values["--val_frames"])) == FRAMES
    assert FRAMES[0] >= 300 and FRAMES[1] >= 150


def test_check_streets__other_frames_are_refused(tmp_path: Path) -> None:
    check_streets(tmp_path, FRAMES, "start anew")
    write_json(tmp_path / "toy_streets.json", {"parameters": {"train_frames": 90, "val_frames": 20}})
    check_streets(tmp_path, (90, 20), "start anew")
    with pytest.raises(
        UserError, match="holds 90 training and 20 validation frames, not 300 and 150; or 90 20"
    ):
        check_streets(tmp_path, (300, 150), "or {} {}")


def test_run_steps__failure_leaves_no_record(tmp_path: Path) -> None:
    step = Command("bad", "timeit", ("-n", "1", "-r", "1", "raise SystemExit(3)"))
    with pytest.raises(UserError, match="bad: failed with exit code"):
        run_steps([step], tmp_path)
    assert recorded(step, tmp_path) is None


def test_record_path__is_a_plain_name() -> None:
    step = Command("Stage 2, 800 steps", "train.py", ())
    assert record_path(step, Path("runs")) == Path("runs/stage_2_800_steps.json")


def _training(tmp_path: Path, *further: str) -> Command:
    """A training of its own: it counts its runs, and leaves a checkpoint folder."""
    script, config = tmp_path / "train.py", tmp_path / "config.yaml"
    script.write_text(
        f"import pathlib; open({str(tmp_path / 'counter')!r}, 'a').write('x')\n"
        f"pathlib.Path({str(tmp_path / 'runs/a/checkpoints')!r}).mkdir(parents=True, exist_ok=True)\n"
    )
    torch.save({"w": torch.zeros(1)}, tmp_path / "start.ckpt")
    config.write_text("_BASE_: base.yaml")
    (tmp_path / "base.yaml").write_text("TRAINING: {STEPS: 7}")
    words = ("--experiment_config_file", str(config), "--checkpoint", str(tmp_path / "start.ckpt"), *further)
    return Command("train", str(script), words)


def _change(tmp_path: Path, what: str) -> str:
    """Change something; return how the refusal names it, empty where it is no matter."""
    if what == "comment":
        (tmp_path / "config.yaml").write_text("# a word\n_BASE_: base.yaml")
        return ""
    if what == "base":
        (tmp_path / "base.yaml").write_text("TRAINING: {STEPS: 8}")
        return "TRAINING.STEPS was 7, now 8"
    torch.save({"w": torch.ones(1)}, tmp_path / "start.ckpt")
    return f"other weights in {tmp_path}/start.ckpt"


@pytest.mark.parametrize("what", ["comment", "base", "weights"])
def test_run_steps__notices_what_decides_beside_the_words(tmp_path: Path, what: str) -> None:
    """A point of a curve stayed done when its checkpoint, or a base of its configuration, had changed."""
    step = _training(tmp_path)
    run_steps([step], tmp_path / "steps")
    run_steps([step], tmp_path / "steps")
    told = _change(tmp_path, what)
    run_steps([step], tmp_path / "steps")
    assert (tmp_path / "counter").read_text() == ("xx" if told else "x")


@pytest.mark.parametrize("what", ["comment", "base", "weights"])
def test_run_steps__a_training_that_resumes_is_not_passed_off_as_new(tmp_path: Path, what: str) -> None:
    """It would find its run at the last step, and stop at once."""
    where = ("--log_path", str(tmp_path / "runs"), "--run_name", "a")
    step = _training(tmp_path, "--resume_if_possible", *where)
    run_steps([step], tmp_path / "steps")
    if told := _change(tmp_path, what):
        with pytest.raises(
            UserError, match=re.escape(f"{tmp_path}/runs/a: trained before a change ({told})")
        ):
            run_steps([step], tmp_path / "steps")
        shutil.rmtree(tmp_path / "runs/a")
    run_steps([step], tmp_path / "steps")
    assert (tmp_path / "counter").read_text() == ("xx" if told else "x")
