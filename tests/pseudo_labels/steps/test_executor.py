"""Shards as local processes and as (pretended) SLURM jobs: same files as from one process."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cups.errors import Stopped, UserError
from cups.io.files import write_npy
from cups.io.png import write_png
from cups.io.provenance import write_provenance
from pseudo_labels import generate_panoptic_pseudolabels, remap_cause27_to_trainid, train_refine_net
from pseudo_labels.steps import executor
from pseudo_labels.steps.executor import _gpus, module_of, submit
from pseudo_labels.steps.label_kind import LabelKind
from pseudo_labels.steps.options import Submission
from tests.pseudo_labels.conftest import Root

REMAP = "pseudo_labels.remap_cause27_to_trainid"
OVERCLUSTER = "pseudo_labels.generate_overclustered_semantics"


def files(folder: Path, root: Path) -> dict[str, bytes]:
    """Content of all files but locks and notes of who writes, with `root` and the code version left out."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".lock" and path.name != ".writer":
            lines = path.read_bytes().replace(str(root).encode(), b"ROOT").splitlines()
            found[str(path.relative_to(folder))] = b"\n".join(x for x in lines if b'"code_version"' not in x)
    return found


def make_labels(root: Root, target: Path) -> None:
    """Random CAUSE labels and codes for both frames under `target`."""
    rng = np.random.default_rng(0)
    for stem in root.stems:
        folder = Path("train") / "aachen"
        write_png(
            target / "pseudo_semantic_cause27" / folder / f"{stem}.png",
            rng.integers(0, 27, (64, 128)).astype(np.uint8),
        )
        codes = rng.standard_normal((8, 16, 6)).astype(np.float16)
        write_npy(target / "codes_cause_tr" / folder / f"{stem}.npy", codes)
    labels = LabelKind("cause27", 27).content()
    write_provenance(target / "pseudo_semantic_cause27", script="test", arguments={}, labels=labels)
    write_provenance(target / "codes_cause_tr", script="test", arguments={})


def parsed(main: executor.Main, argv: list[str]) -> Submission:
    with pytest.raises(Submission) as raised:
        main(argv)
    return raised.value


def test_local__fits_once_and_writes_what_one_process_writes(tiny_root: Root, tmp_path: Path) -> None:
    overcluster = import_module(OVERCLUSTER)
    one, many = tmp_path / "one", tmp_path / "many"
    flags = ["--cityscapes_root", str(tiny_root.path), "--k", "5", "--epochs", "2"]
    flags += ["--mapping", "oracle"]
    for target in (one, many):
        make_labels(tiny_root, target)
    overcluster.main([*flags, "--output_root", str(one)])
    argv = [*flags, "--output_root", str(many), "--executor", "local", "--num_shards", "9"]
    assert submit(OVERCLUSTER, argv, parsed(overcluster.main, argv)) == 0
    made, expected = (files(root / "pseudo_semantic_mapped_k5", root) for root in (many, one))
    assert made == expected and len(made) == 6  # two label maps, centroids, names, provenance, sizes
    logs = list((many / "submitit").rglob("*_log.err"))
    assert len(logs) == len(tiny_root.stems)  # no more shards than frames
    assert sum("oracle mapping: 100%" in log.read_text() for log in logs) == 1
    assert sum("vectors: 100%" in log.read_text() for log in logs) == 1


def test_local__a_light_step_writes_what_one_process_writes(tiny_root: Root, tmp_path: Path) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    flags = ["--cityscapes_root", str(tiny_root.path)]
    for target in (one, many):
        make_labels(tiny_root, target)
    remap_cause27_to_trainid.main([*flags, "--output_root", str(one), "--show", "2"])
    argv = [*flags, "--output_root", str(many), "--executor", "local", "--num_shards", "9", "--show", "2"]
    submission = parsed(remap_cause27_to_trainid.main, argv)
    assert (submission.run.executor, submission.run.num_shards, submission.device) == ("local", 9, "cpu")
    assert submit(REMAP, argv, submission) == 0
    made, expected = (files(root / "pseudo_semantic_mapped_cause27", root) for root in (many, one))
    assert (
        made == expected and len(made) == 5
    )  # two label maps, provenance, sizes of the images, contact sheet
    assert len(list((many / "submitit").rglob("*_log.err"))) == len(tiny_root.stems)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`sbatch` that accepts a job array, which this process runs while it waits."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (
        ("sbatch", f'cp "$1" {tmp_path}/batch.sh; echo "Submitted batch job 42"'),
        ("srun", ""),
        ("squeue", "echo '42_0|PENDING|Resources'; echo '42_1|RUNNING|None'"),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGCONT)
    }

    def run_jobs(_: float) -> None:
        from submitit.core.submission import process_job

        for task in range(2):
            slurm = {"JOB_ID": 43 + task, "ARRAY_JOB_ID": 42, "ARRAY_TASK_ID": task, "PROCID": 0, "NTASKS": 1}
            slurm |= {"LOCALID": 0, "NODEID": 0, "JOB_NUM_NODES": 1, "JOB_NODELIST": "node1"}
            with monkeypatch.context() as patch:
                for key, value in slurm.items():
                    patch.setenv(f"SLURM_{key}", str(value))
                patch.setenv("SUBMITIT_EXECUTOR", "slurm")
                try:
                    process_job(tmp_path / "jobs")
                except RuntimeError as error:
                    assert "out of luck" in str(error)

    monkeypatch.setattr(executor.time, "sleep", run_jobs)
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


def remap_flags(root: Root, folder: Path) -> list[str]:
    make_labels(root, root.path)
    slurm = ["--executor", "slurm", "--num_shards", "2", "--executor_folder", str(folder / "jobs")]
    return ["--cityscapes_root", str(root.path), *slurm, "--slurm_partition", "gpu", "--slurm_time", "30"]


def test_slurm__array_with_the_asked_resources(
    tiny_root: Root, cluster: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    argv = remap_flags(tiny_root, cluster)
    submission = parsed(remap_cause27_to_trainid.main, argv)
    assert submit(REMAP, argv, submission) == 0
    assert len(list((tiny_root.path / "pseudo_semantic_mapped_cause27").rglob("*.png"))) == 2
    assert "jobs 42_0 to 42_1: 1 pending (Resources), 1 running" in caplog.text
    batch = (cluster / "batch.sh").read_text()
    for line in ("--array=0-1%2", "--partition=gpu", "--time=30", "--mem=32GB", "--cpus-per-task=4"):
        assert f"#SBATCH {line}" in batch
    assert "#SBATCH --signal=USR1@120" in batch and "#SBATCH --requeue" in batch
    assert "export SUBMITIT_PREEMPT_SIGNAL=USR1" in batch
    assert "gpus" not in batch


def test_slurm__says_which_shards_failed_and_why(
    tiny_root: Root, cluster: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    argv = remap_flags(tiny_root, cluster)
    submission = parsed(remap_cause27_to_trainid.main, argv)

    def main(argv: list[str]) -> int:
        if argv[-1] == "1":
            raise RuntimeError("out of luck")
        raise UserError("a.png: unreadable; copy it again")

    monkeypatch.setattr(remap_cause27_to_trainid, "main", main)
    assert submit(REMAP, argv, submission) == 2
    assert "shard 0: error: a.png: unreadable; copy it again" in caplog.text
    assert "shard 1 crashed: RuntimeError: out of luck" in caplog.text


def test_wait__interrupted_takes_its_jobs_along(monkeypatch: pytest.MonkeyPatch) -> None:
    class Job:
        def __init__(self, finished: bool) -> None:
            self.finished, self.cancelled = finished, False

        def done(self) -> bool:
            return self.finished

        def cancel(self, check: bool) -> None:
            self.cancelled = True

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(executor.time, "sleep", interrupt)
    jobs = [Job(True), Job(False)]
    with pytest.raises(KeyboardInterrupt):
        executor._wait(jobs, "test", 1.0, Job.done)
    assert [job.cancelled for job in jobs] == [False, True]
    monkeypatch.setattr(executor.time, "sleep", lambda _: signal.raise_signal(signal.SIGTERM))
    jobs, before = [Job(True), Job(False)], signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="stopped, with its jobs; the same command goes on") as stopped:
        executor._wait(jobs, "test", 1.0, Job.done)
    assert [job.cancelled for job in jobs] == [False, True] and stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [0, signal.SIGUSR1])
def test_shard__saved_before_its_time_is_over_leaves_no_result(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Its job is queued again: a result would end the waiting for it."""

    def main(argv: list[str]) -> int:
        raise Stopped("saved", number)

    monkeypatch.setattr(remap_cause27_to_trainid, "main", main)
    with pytest.raises(SystemExit) as left:
        executor.Shard(REMAP, ())()
    assert left.value.code == 0


def test_shard__stopped_by_its_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def main(argv: list[str]) -> int:
        raise Stopped("stopped at step 3", signal.SIGTERM)

    monkeypatch.setattr(remap_cause27_to_trainid, "main", main)
    assert executor.Shard(REMAP, ())() == (143, "stopped at step 3")


def test_slurm__a_training_is_one_job_with_a_process_for_each_gpu(
    tiny_root: Root, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ran on the machine where the command was given, the login node."""
    ran: list[list[str]] = []
    flags = ["--cityscapes_root", str(tiny_root.path), "--executor", "slurm", "--num_gpus", "2"]
    argv = [*flags, "--executor_folder", str(cluster / "jobs"), "--device", "cuda"]
    submission = parsed(train_refine_net.main, argv)
    monkeypatch.setattr(executor, "_wait", lambda *_: None)
    monkeypatch.setattr(executor, "_exit_code", lambda jobs, states: len(jobs))
    monkeypatch.setattr(executor, "submit_jobs", _keeping(ran, executor.submit_jobs))
    assert submit("pseudo_labels.train_refine_net", argv, submission) == 1
    (words,) = ran
    assert words[: len(argv)] == argv and words[-2:] == ["--executor", "none"] and "--shard" not in words
    batch = (cluster / "batch.sh").read_text()
    for line in ("--job-name=train_refine_net", "--gpus-per-node=2", "--ntasks-per-node=2"):
        assert f"#SBATCH {line}" in batch
    assert "--array" not in batch
    on_cpu = parsed(train_refine_net.main, [*argv, "--device", "cpu"])
    submit("pseudo_labels.train_refine_net", [*argv, "--device", "cpu"], on_cpu)
    batch = (cluster / "batch.sh").read_text()
    assert "gpus" not in batch and "#SBATCH --ntasks-per-node=2" in batch


def _keeping(ran: list[list[str]], submit_jobs: Any) -> Any:
    def keep(calls: Any, *more: Any) -> Any:
        ran[:] = [list(call.argv) for call in calls]
        return submit_jobs(calls, *more)

    return keep


def test_shard__is_queued_again_as_it_is() -> None:
    shard = executor.Shard(REMAP, ("--shard", "3"))
    assert shard.checkpoint().function == shard


SCRIPTS = Path(executor.__file__).parents[1]
STEPS = sorted(
    path.stem
    for pattern in ("generate_*", "extract_*", "convert_*", "remap_*", "train_*", "classify_*")
    for path in SCRIPTS.glob(f"{pattern}.py")
)


def test_steps__are_found() -> None:
    assert "generate_depth_guided_instances" in STEPS


@pytest.mark.parametrize("step", STEPS)
def test_steps__can_be_submitted(step: str) -> None:
    source = (SCRIPTS / f"{step}.py").read_text()
    assert "    run_script(main)\n" in source, "end the script with run_script(main), not run_main(main)"


def test_submit__bad_input(tiny_root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    common = ["--cityscapes_root", str(tiny_root.path), "--num_shards", "2", "--executor"]
    no_slurm = parsed(remap_cause27_to_trainid.main, [*common, "slurm"])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="`executor` slurm: no sbatch on this machine"):
        submit(REMAP, common, no_slurm)
    shard = parsed(remap_cause27_to_trainid.main, [*common, "local", "--shard", "1"])
    with pytest.raises(UserError, match="leave `shard` out"):
        submit(REMAP, common, shard)
    with pytest.raises(SystemExit):  # other flags are checked before anything is submitted
        remap_cause27_to_trainid.main([*common, "local", "--no_such_flag"])


def test_submission__is_one_line_where_a_step_cannot_be_sharded(tiny_root: Root) -> None:
    with pytest.raises(UserError, match="`executor` local: this step runs as one process"):
        remap_cause27_to_trainid.main(["--cityscapes_root", str(tiny_root.path), "--executor", "local"])


def test_module_of__scripts_and_modules() -> None:
    assert module_of(remap_cause27_to_trainid.main) == REMAP
    assert module_of(import_module(OVERCLUSTER).main) == OVERCLUSTER


def test_gpus__are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert (_gpus("auto"), _gpus("cuda:1"), _gpus("cpu")) == ([0, 1], [1], [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert (_gpus("cuda"), _gpus("cuda:1")) == ([4, 7], [7])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _gpus("auto") == []
    with pytest.raises(UserError, match="no CUDA device"):
        _gpus("cuda:1")


def test_shards__last_one_writes_what_sums_up(tiny_root: Root) -> None:
    """The JSON of panoptic labels: nothing after the first of two shards, everything after the second."""
    for stem in tiny_root.stems:
        path = tiny_root.file("pseudo_instance_depth_guided_mapped_k300", f"{stem}.png")
        write_png(path, np.zeros((64, 128), dtype=np.uint16))
    flags = ["--cityscapes_root", str(tiny_root.path), "--thing_classes", "13", "--num_shards", "2"]
    flags += ["--semantic_subdir", "pseudo_semantic_mapped_k300"]
    result = tiny_root.path / "pseudo_panoptic_depth_guided_mapped_k300" / "train.json"
    generate_panoptic_pseudolabels.main([*flags, "--shard", "1"])
    assert not result.exists()
    generate_panoptic_pseudolabels.main([*flags, "--shard", "0"])
    assert all(stem in result.read_text() for stem in tiny_root.stems)
