"""A SLURM cluster of this machine, in a temporary folder; where SLURM is not installed tests are skipped."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAEMONS = ("munged", "slurmctld", "slurmd")
PROGRAMS = ("sbatch", "srun", "squeue", "scontrol", "scancel")
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerParameters=sched_interval=1,batch_sched_delay=0
PriorityType=priority/basic
ReturnToService=2
KillWait=5
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A running cluster; its programs are told of it by the environment."""

    folder: Path
    environment: dict[str, str]

    def ask(self, *command: str) -> str:
        """Return what one of its programs prints."""
        run = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=True
        )
        return run.stdout.strip()

    def wait_for(self, *command: str, until: str, seconds: float = 90) -> str:
        """Ask until the answer holds a word."""
        end = time.monotonic() + seconds
        while until not in (told := self.ask(*command)):
            assert time.monotonic() < end, f"{command}: never {until!r}, but {told!r}; {self.logs()}"
            time.sleep(0.3)
        return told

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        return "\n".join(path.read_text()[-1500:] for path in sorted(self.folder.glob("*.log")))


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A controller and a node, without accounting, which start processes as this user."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in (*DAEMONS, *PROGRAMS) if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"SLURM is not installed here: {', '.join(missing)}")
    if os.getuid() != 0:
        pytest.skip("slurmd starts jobs as root only")
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)  # munged accepts no socket in a folder that others cannot enter
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o755)
    (folder / "munge" / "key").write_bytes(os.urandom(128))
    (folder / "munge" / "key").chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    config = folder / "slurm.conf"
    ports = {"controller": _free_port(), "node": _free_port()}
    cpus = len(os.sched_getaffinity(0))
    config.write_text(CONFIG.format(host=host, folder=folder, user="root", cpus=cpus, **ports))
    clean = {key: value for key, value in os.environ.items() if "SLURM" not in key and "SUBMITIT" not in key}
    environment = clean | {"PATH": f"{Path(sys.executable).parent}:{path}", "SLURM_CONF": str(config)}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
    munged += [f"--key-file={folder}/munge/key", f"--log-file={folder}/munged.log"]
    munged += [f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munge/seed"]
    made = Cluster(folder, environment)
    with ExitStack() as stack:
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            with (folder / f"{command[0]}.out").open("wb") as output:
                process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            stack.callback(_stop, process)
            time.sleep(1)
            if process.poll() is not None:
                pytest.skip(f"{command[0]} cannot run here: {made.logs()}")
        made.wait_for("sinfo", "--noheader", "--format=%t", until="idle")
        yield made
        subprocess.run(["scancel", "--user=root"], env=environment, check=False, capture_output=True)
        time.sleep(1)
