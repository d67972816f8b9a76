"""Launch scripts: every command they print is one that train.py understands, with the config it names."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from yacs.config import CfgNode

import train
from cups.builders import stages
from cups.config import plain

ROOT = Path(__file__).resolve().parents[2]
SLURM = "run_stage2_slurm.sh"
SCRIPTS = sorted(file.name for file in (ROOT / "scripts").glob("run_*_stage2.sh")) + [SLURM]
VARIABLES = {"DATA_ROOT": "/data/city scapes", "PSEUDO_ROOT": "/labels", "DRY_RUN": "1"}
OURS = (*VARIABLES, "NUM_GPUS", "LOG_PATH", "RUN_NAME", "WANDB", "CONFIG", "REPOSITORY")


def run(script: str, *flags: str, expect: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a launch script with these variables alone; return what it printed."""
    rest = {key: value for key, value in os.environ.items() if key not in OURS and "SLURM" not in key}
    command = ["bash", str(ROOT / "scripts" / script), *flags]
    result = subprocess.run(command, env=rest | variables, capture_output=True, text=True, check=False)
    assert result.returncode == expect, result.stdout + result.stderr
    return result


def printed(script: str, *flags: str, **variables: str) -> list[str]:
    """Return the command of a dry run."""
    line = run(script, *flags, **VARIABLES | variables).stdout.strip()
    assert line.startswith("+ ") and "\n" not in line
    return shlex.split(line[2:])


class _Parsed(Exception):
    """Raised in place of the training; carries its config."""


def config_of(command: list[str], monkeypatch: pytest.MonkeyPatch) -> CfgNode:
    """Return the config that train.py makes of a command."""

    def stop(config: CfgNode) -> Any:
        raise _Parsed(config)

    position = command.index(str(ROOT / "train.py"))
    monkeypatch.setattr(stages, "prepare_process", stop)
    with pytest.raises(_Parsed) as caught:
        train.main(command[position + 1 :])
    return caught.value.args[0]


def test_scripts__all_are_there() -> None:
    assert {"run_resnet50_v4_stage2.sh", "run_resnet50_k50_stage2.sh", "run_vitb_stage2.sh"} <= set(SCRIPTS)
    assert {f"run_vitb_v{version}_stage2.sh" for version in (3, 4, 5)} <= set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts__command_parses_and_flags_win(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = printed(
        script, "--steps", "7", "TRAINING.BATCH_SIZE", "3", RUN_NAME="mine", LOG_PATH="/logs", NUM_GPUS="1"
    )
    config = config_of(command, monkeypatch)
    assert (config.DATA.ROOT, config.DATA.ROOT_PSEUDO) == ("/data/city scapes", "/labels")
    assert (config.TRAINING.STEPS, config.TRAINING.BATCH_SIZE) == (7, 3)
    assert (config.SYSTEM.RUN_NAME, config.SYSTEM.LOG_PATH, config.SYSTEM.WANDB) == ("mine", "/logs", False)
    assert "--resume_if_possible" in command


@pytest.mark.parametrize("script", SCRIPTS[:-1])
def test_scripts__run_is_named_after_its_config(script: str) -> None:
    command = printed(script)
    config = Path(command[command.index("--experiment_config_file") + 1])
    assert config.name == f"train_cityscapes_{script[4 : -len('_stage2.sh')]}.yaml" and config.is_file()
    assert config.stem.endswith(command[command.index("--run_name") + 1])
    assert "--num_gpus" not in command, "the config's number holds"


def test_scripts__number_of_gpus_and_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(printed("run_resnet50_v4_stage2.sh", NUM_GPUS="8", WANDB="1"), monkeypatch)
    assert config.SYSTEM.NUM_GPUS == 8 and config.SYSTEM.WANDB is True


def test_slurm__nodes_and_tasks_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    job = {"SLURM_NTASKS_PER_NODE": "4", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "77"}
    command = printed(SLURM, CONFIG="train_cityscapes_resnet50_k50.yaml", SLURM_SUBMIT_DIR=str(ROOT), **job)
    assert command[0] == "srun", "one process per task"
    config = config_of(command, monkeypatch)
    assert (config.SYSTEM.NUM_GPUS, config.SYSTEM.NUM_NODES) == (4, 2)
    # The same after requeueing, after another submission, and on every rank.
    assert config.SYSTEM.RUN_NAME == "stage2_cityscapes_resnet50_k50"
    assert "resnet50_k50" in " ".join(command) and "OVERRIDES" in plain(config)["MODEL"]


def test_slurm__a_copy_in_the_spool_folder_finds_the_checkout(tmp_path: Path) -> None:
    copy = tmp_path / "slurm_script"
    copy.write_text((ROOT / "scripts" / SLURM).read_text())
    assert "srun" in run(str(copy), SLURM_SUBMIT_DIR=str(ROOT), **VARIABLES).stdout
    result = run(str(copy), expect=2, SLURM_SUBMIT_DIR=str(tmp_path), **VARIABLES)
    assert "submit from the repository" in result.stderr


def test_slurm__starts_the_training_on_the_cluster(tmp_path: Path) -> None:
    """As sbatch does it: a copy of the script, in a job's environment, with srun on the PATH."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$NUM_GPUS" "$@"\n')
    srun.chmod(0o755)
    copy = tmp_path / "slurm_script"
    copy.write_text((ROOT / "scripts" / SLURM).read_text())
    job = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "77", "SLURM_NTASKS_PER_NODE": "4"}
    job |= {"SLURM_JOB_NUM_NODES": "2", "PATH": f"{srun.parent}:{os.environ['PATH']}"}
    printed = run(str(copy), DATA_ROOT=str(tmp_path), PSEUDO_ROOT=str(tmp_path), **job).stdout
    _, gpus, python, script, *flags = printed.splitlines()
    assert gpus == "4" and "python" in python and script == str(ROOT / "train.py")
    assert "--resume_if_possible" in flags and "stage2_cityscapes" in flags


def test_slurm__directives_come_first() -> None:
    """sbatch stops looking for directives at the first command."""
    lines = (ROOT / "scripts" / SLURM).read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    directives = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert directives == list(range(1, len(directives) + 1))
    # To the steps, where the training is; "B:" would be to the script alone.
    assert {"#SBATCH --signal=USR1@120", "#SBATCH --requeue"} <= set(lines)


@pytest.mark.parametrize("script", ["run_vitb_stage2.sh", SLURM])
@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "DATA_ROOT: not set"),
        ({"DATA_ROOT": "/"}, "PSEUDO_ROOT: not set"),
        ({"DATA_ROOT": "/nowhere", "PSEUDO_ROOT": "/"}, "/nowhere: no such folder; check DATA_ROOT"),
    ],
)
def test_scripts__bad_input_is_one_line_and_exit_2(
    script: str, variables: dict[str, str], message: str
) -> None:
    result = run(script, expect=2, **variables)
    assert result.stderr.startswith(f"{script}: {message}") and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts__help_needs_no_variables(script: str) -> None:
    text = run(script, "--help").stdout
    assert "DATA_ROOT" in text and script in text and "NUM_GPUS" in text
