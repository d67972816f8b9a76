"""Stands for a program that the server runs: hands it words, folder, environment and standard files.

Signals go on to the program. Called as `client.py SOCKET WORD ...`, the words as for `python`. Those that
begin with a switch other than `-m` are for the real Python.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def hand_on(program: int, number: int) -> None:
    """Send a signal to the program, if it is there still."""
    with suppress(ProcessLookupError):
        os.kill(program, number)


def main() -> int:
    place, *words = sys.argv[1:]
    if words[:1] == ["-u"]:
        os.environ["PYTHONUNBUFFERED"] = "1"
        words = words[1:]
    if not words or (words[0].startswith("-") and words[0] not in ("-c", "-m")):
        os.execv(sys.executable, [sys.executable, *words])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(place)
        told = {"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}
        socket.send_fds(server, [json.dumps(told).encode()], [0, 1, 2])
        program = int(server.recv(64))
        for number in FORWARDED:
            signal.signal(number, lambda number, _: hand_on(program, number))
        code = os.waitstatus_to_exitcode(int(server.recv(64)))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
