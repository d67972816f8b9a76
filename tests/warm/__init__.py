"""A `python` whose programs begin with torch and Lightning in memory.

To import them takes some seconds of CPU, more than most programs of the tests work. A server (`server.py`),
started once for a process of tests, forks itself for each program; `client.py` stands for it where it was
called. A program still is a process of its own, with its words, folder, environment, standard files, exit
code and signals, and it imports this project anew. Only the libraries are there already, and Python's hash
seed is the server's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent


@cache
def warm_environment() -> dict[str, str]:
    """Start the server; return the variables by which scripts find the `python`: an active environment.

    The server ends with this process.
    """
    folder = Path(tempfile.mkdtemp(prefix="warm_"))
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{HERE}/client.py" "{folder}/socket" "$@"\n')
    python.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-I", str(HERE / "server.py"), str(folder)],
        stdin=subprocess.PIPE,  # its end is the server's
        stdout=subprocess.PIPE,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},  # libraries read some variables once
    )
    assert server.stdout is not None and server.stdout.readline() == b"ready\n", "the server did not start"
    _servers.append(server)
    return {"VIRTUAL_ENV": str(folder), "PATH": f"{python.parent}:{os.environ['PATH']}"}


def warm_python() -> str:
    """Return the path of the `python`."""
    return f"{warm_environment()['VIRTUAL_ENV']}/bin/python"


_servers: list[subprocess.Popen[bytes]] = []
"""Kept, so that the pipe stays open."""
