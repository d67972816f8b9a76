"""A pool of worker processes that leaves Ctrl-C to its process, and ends with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import connection
from multiprocessing.context import BaseContext
from typing import Any


class WorkerPool(ProcessPoolExecutor):
    """Worker processes for one task each at a time.

    A terminal sends Ctrl-C to every process of a command. Workers would answer each with a traceback, some in
    the middle of their imports, so they are started with the signal blocked. Their process cancels what
    waits, and lets them finish what they have begun. They end when it is gone, however it ended.

    Args:
        workers: number of processes.
        context: of `multiprocessing`, forkserver or spawn.
        initializer, initargs: called in each worker before its first task.
    """

    def __init__(
        self,
        workers: int,
        context: BaseContext,
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[Any] = (),
    ) -> None:
        super().__init__(workers, context, _begin, (initializer, tuple(initargs)))

    def submit(self, task: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        """See `ProcessPoolExecutor`; it starts the workers, which inherit what is blocked here."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        try:
            return super().submit(task, *arguments, **more)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.shutdown(wait=True, cancel_futures=error is not None)


def _begin(initializer: Callable[..., object] | None, initargs: Sequence[Any]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
