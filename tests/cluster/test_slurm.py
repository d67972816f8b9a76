"""Stage 1 on a real SLURM without accounting, which Debian's package slurm-wlm installs."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from cups.errors import UserError
from pseudo_labels.steps import executor, slurm_jobs
from pseudo_labels.steps.options import Submission
from tests.cluster.conftest import Cluster
from tests.warm import warm_python

FEATURES = "pseudo_labels.extract_dinov2_features"
TRAINING = "pseudo_labels.train_cause"
TINY = "--codebook_size 16 --batch_size 2 --reduced_dim 8 --projection_dim 8 --hidden_dim 8"
CORES = len(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def toy(make_folder: Callable[[str], Path], write_city: Callable[[Path, str], Path]) -> Path:
    """Four frames."""
    return write_city(make_folder("toy"), "small")


@pytest.fixture(autouse=True)
def _on_the_cluster(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Talk to the cluster, and look at it more often than people do; jobs have the libraries in memory."""
    monkeypatch.setattr(sys, "executable", warm_python())
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(executor.POLL_SECONDS, "slurm", 0.3)
    monkeypatch.setattr(slurm_jobs, "ASK_SECONDS", 0.5)
    monkeypatch.setattr(slurm_jobs, "GRACE_SECONDS", 1.0)
    caplog.set_level(logging.INFO)


def wait_until(true: Callable[[], bool], seconds: float = 120) -> None:
    """Look again and again."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def submitted(module: str, argv: list[str], meanwhile: Callable[[], None] | None = None) -> int:
    """Give a command that submits jobs; returns its exit code."""
    with pytest.raises(Submission) as asked:
        import_module(module).main(argv)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            assert meanwhile is not None
            meanwhile()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run) if meanwhile else None
    if thread:
        thread.start()
    code = executor.submit(module, argv, asked.value)
    if thread:
        thread.join()
    if raised:
        raise raised[0]
    return code


def test_slurm__shards_and_one_that_is_cancelled(
    cluster: Cluster, toy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The parent waited forever for a cancelled shard where there is no accounting."""
    argv = ["--cityscapes_root", str(toy), "--output_root", str(tmp_path), "--backbone", "texton"]
    argv += ["--device", "cpu", "--num_workers", "1", "--executor", "slurm", "--num_shards", "2"]
    argv += ["--slurm_mem", "0", "--slurm_cpus", str(CORES), "--slurm_time", "10"]

    # A job that holds all cores: both shards wait, however quick the first one would be.
    holds = cluster.ask(
        "sbatch", "--parsable", f"--cpus-per-task={CORES}", "--output=/dev/null", "--wrap=sleep 600"
    )
    cluster.wait_for("squeue", "--noheader", "--format=%T", until="RUNNING")

    def cancel() -> None:
        """End the second shard while both wait, and let the first one start."""
        wait_until(lambda: "pending (Resources)" in caplog.text)
        (array,) = set(cluster.ask("squeue", "--noheader", "--states=PENDING", "--format=%F").split())
        cluster.ask("scontrol", "hold", f"{array}_1")  # SLURM forgets what it never told from its array
        cluster.ask("scancel", f"{array}_1")
        cluster.ask("scancel", holds)

    assert submitted(FEATURES, argv, cancel) == 1
    made = list((tmp_path / "features_texton").rglob("*.npy"))
    assert len(made) == 2
    told = caplog.text
    assert "pending (Resources)" in told and "_0 to " in told
    assert "_1 ended without a result: cancelled" in told and "_1_0_log.err)" in told
    # Resumed by giving the command again.
    argv[argv.index(str(CORES))] = "1"
    assert submitted(FEATURES, argv) == 0
    assert len(list((tmp_path / "features_texton").rglob("*.npy"))) == 4


def test_slurm__a_training_saves_before_its_time_is_over_and_goes_on(
    cluster: Cluster, toy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    argv = ["--cityscapes_root", str(toy), "--output_root", str(tmp_path), "--backbone", "texton"]
    argv += ["--device", "cpu", "--executor", "slurm", "--slurm_mem", "0", "--slurm_cpus", "1"]
    argv += ["--codebook_steps", "2", "--head_steps", "60", "--probe_steps", "2", *TINY.split()]
    argv += ["--save_minutes", "0", "--slurm_time", "10"]
    folder = tmp_path / "cause_texton"
    told: dict[str, Any] = {}

    def signal() -> None:
        """Signal it within the second phase; SLURM itself does so `SIGNAL_SECONDS` before the limit."""
        wait_until(lambda: all((folder / name).exists() for name in ("after_codebook.pth", "training.pth")))
        job = cluster.ask("squeue", "--noheader", "--format=%i")
        told.update(job=job, before=cluster.ask("scontrol", "show", "job", job))
        script = cluster.ask("scontrol", "write", "batch_script", job, "-")
        assert (
            "#SBATCH --signal=USR1@120" in script and "#SBATCH --requeue" in script and "gpus" not in script
        )
        cluster.ask("scancel", "--signal=USR1", job)
        cluster.wait_for("squeue", "--noheader", "--format=%T", until="PENDING")
        told["step"] = torch.load(folder / "training.pth", weights_only=True)["step"]
        # SLURM starts a requeued job after two minutes.
        cluster.ask("scontrol", "update", f"jobid={job}", "starttime=now")

    assert submitted(TRAINING, argv, signal) == 0, caplog.text
    assert 0 < told["step"] < 60 and "Requeue=1 Restarts=0" in told["before"]
    assert "Restarts=1" in cluster.ask("scontrol", "show", "job", told["job"])
    log = "\n".join(path.read_text() for path in (tmp_path / "submitit").rglob("*_log.err"))
    later = log.rpartition("done before")[2]  # that of its first phase, in the second start
    assert f" {told['step']}/60 " in later and " 0/60 " not in later, log
    assert (folder / "cluster_tr.pth").is_file() and not (folder / "training.pth").exists()


def test_slurm__what_the_cluster_refuses_is_one_line_with_the_fix(toy: Path, tmp_path: Path) -> None:
    argv = ["--cityscapes_root", str(toy), "--output_root", str(tmp_path), "--backbone", "texton"]
    argv += ["--executor", "slurm", "--slurm_mem", "0"]
    with pytest.raises(UserError, match="`slurm_gpus` 0 or `device` cpu asks for no GPU"):
        submitted(FEATURES, argv)
