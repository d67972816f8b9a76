"""Processes that this one starts: they end when it ends, even when it is killed."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from typing import Any

from cups.interrupts import Repeats

PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 30.0
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
"""What a scheduler is told to send some minutes before the time of a job is over."""
QUIET = (signal.SIGINT, *WARNINGS)
"""Signals that reach all processes of a job, and of which only its first process shall know."""


def end_with_parent(number: int = signal.SIGTERM, parent: int | None = None) -> None:
    """Let the system send this process a signal when its parent ends; Linux only.

    parent: its process number; one that is gone already counts, too.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number))
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)


def start_child(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a program that gets SIGTERM when this process ends, however that happens."""
    parent = os.getpid()
    # In the child, before the program; those who call this have no other threads.
    ask = lambda: end_with_parent(signal.SIGTERM, parent)  # noqa: E731
    return subprocess.Popen(argv, preexec_fn=ask, **options)  # noqa: PLW1509


def run_child(argv: Sequence[str]) -> int:
    """Run a program to its end; returns its exit code as a shell does.

    Ctrl-C reaches it from the terminal, and SIGTERM is handed on: a training saves itself then, and its end
    is awaited. A second one of them ends it.
    """
    repeats = Repeats()
    process: subprocess.Popen[bytes] | None = None
    waiting = [signal.SIGINT, signal.SIGTERM]
    told = []

    def note(number: int, _: Any) -> None:
        told.append(number)
        if process is not None:
            if repeats.insists(number):
                process.kill()
            elif number == signal.SIGTERM:
                process.send_signal(number)

    before = {number: signal.signal(number, note) for number in waiting}
    try:
        process = start_child(argv)
        if signal.SIGTERM in told:
            process.terminate()
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if told and code == 0:
        return 128 + told[0]  # it was through; what would come next is not wanted
    return 128 - code if code < 0 else code


def end_with(pid: int) -> None:
    """Interrupt this process when another one of this machine ends, and kill it where that does not help."""

    def watch() -> None:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            pass
        except (OSError, AttributeError):
            return
        else:
            select.select([handle], [], [])
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(GRACE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end with").start()


def ignore_stop_signals(_: int = 0) -> None:
    """Let a loader process outlive what stops the process that it reads for, which ends it when it is ready.

    Ctrl-C and schedulers signal every process of a job, and a loader that died would fail the step. It does
    not outlive that process itself.
    """
    for number in (*QUIET, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)


def worker_context(preload: Sequence[str] = ()) -> ForkServerContext:
    """Return how worker processes are started: clean ones, deaf to what their main process is told.

    A plain fork would copy the thread pools of torch and OpenCV. Ctrl-C and the warnings of a scheduler reach
    every process of a job; workers that took them would print tracebacks and break the pool.

    Args:
        preload: modules that the workers share.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    resource_tracker.ensure_running()  # first: it sets the mask of signals back
    before = signal.pthread_sigmask(signal.SIG_BLOCK, QUIET)
    try:
        forkserver.ensure_running()  # its children inherit the mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def start_worker() -> None:
    """End this worker process as soon as its main process does; the pool alone would leave it waiting."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end with main").start()
