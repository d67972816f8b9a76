"""What the steps of a run cost: time and memory of a command, and the machine it ran on."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from cups.errors import NothingFound, UserError
from cups.io.children import start_child
from cups.io.files import check_fields, file_sha256, read_json, write_json
from cups.io.markdown import markdown_table


@dataclass(frozen=True)
class StepRecord:
    """What one step of a run cost.

    Attributes:
        name: the step.
        seconds: wall time.
        peak_memory_mb: largest resident memory of a single process (MiB) among the step's process and those
            of its children that it waited for; not their sum.
        command: the arguments it was started with.
        configs: SHA-256 of each configuration file among them, as it was then.
        settings: the configuration as it was resolved then, see `studies.decided.settings_of`.
        weights: digests of the checkpoints among them, see `studies.decided.weights_of`.
    """

    name: str
    seconds: float
    peak_memory_mb: float
    command: tuple[str, ...] = ()
    configs: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)

    def write_json(self, path: Path) -> None:
        """Write the record atomically."""
        write_json(Path(path), asdict(self))


def read_step(path: Path) -> StepRecord:
    """Read what `StepRecord.write_json` wrote.

    Raises:
        UserError: missing file, or one that is no step record.
    """
    fix = "run the step again"
    content = read_json(path, fix)
    check_fields(content, StepRecord, path, fix)
    return StepRecord(**content | {"command": tuple(content.get("command", ()))})


def steps_table(steps: Sequence[StepRecord]) -> str:
    """Return a Markdown table step | time | peak memory, with the sum of times and the highest peak."""
    rows = [(step.name, duration(step.seconds), f"{step.peak_memory_mb:.0f} MB") for step in steps]
    if len(steps) > 1:
        peak = max(step.peak_memory_mb for step in steps)
        rows.append(("total", duration(sum(step.seconds for step in steps)), f"{peak:.0f} MB"))
    return markdown_table(rows, ("step", "time", "peak memory"))


def duration(seconds: float) -> str:
    """Return seconds as "4.2 s", "3 min 05 s" or "2 h 03 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def config_digests(argv: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of each configuration file (`*.yaml`) that a command line names."""
    files = (Path(argument) for argument in argv if argument.endswith(".yaml"))
    return {str(file): file_sha256(file) for file in files if file.is_file()}


def run_measured(
    argv: Sequence[str], name: str | None = None, env: Mapping[str, str] | None = None
) -> StepRecord:
    """Run a command, its output passing through, and measure it.

    Args:
        argv: program and arguments.
        name: name of the record; by default the program's.
        env: environment; by default this process's.

    Returns:
        Wall time and peak memory; `StepRecord` says what the peak counts.

    Raises:
        UserError: the program is missing, or ends with another code than 0.
        NothingFound: it ends with 3.
    """
    name = name or Path(argv[0]).name
    configs = config_digests(argv)
    reader, writer = os.pipe()
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("measured_child.py")), str(writer)]
    start = time.perf_counter()
    with os.fdopen(reader) as pipe:
        try:
            environment = None if env is None else dict(env)
            process = start_child([*launcher, *argv], env=environment, pass_fds=(writer,))
        finally:
            os.close(writer)
        try:
            process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        seconds = time.perf_counter() - start
        code, _, value = pipe.read().partition(" ")
    if code == "start":
        raise UserError(f"{argv[0]}: cannot be started ({os.strerror(int(value))}); check the installation")
    if code == str(NothingFound.code):
        raise NothingFound(f"{name}: found nothing; its output above says why, and how to go on all the same")
    if code != "0":
        raise UserError(f"{name}: failed with exit code {code or process.returncode}; see its output above")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return StepRecord(name, seconds, int(value) / unit, tuple(argv), configs)


def describe_machine() -> dict[str, str]:
    """Return processor, cores, memory, GPU (if any), system and versions, for reports."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": f"{memory:.0f} GB",
        "gpu": ", ".join(gpus) or "none",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in ("torch", "torchvision", "pytorch-lightning", "numpy", "detectron2"):
        try:
            machine[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return machine


def machine_line() -> str:
    """Return the machine in one line: what stands under a table of times."""
    machine = describe_machine()
    gpu = "" if machine["gpu"] == "none" else f", {machine['gpu']}"
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory']}{gpu}, "
        f"Python {machine['python']}, torch {machine.get('torch', 'none')}"
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()
