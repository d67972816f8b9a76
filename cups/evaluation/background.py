"""Work beside a network: what is read before it, and what is made of its outputs after it, in threads.

Little waits at a time, whatever the number of images. An error of a thread ends the run as if it had come
from the line that handed the work over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
WAITING = 4
"""Outputs of the network that wait for what is made of them."""


def read_ahead(items: Iterable[Item]) -> Generator[Item, None, None]:
    """Yield items in their order; the next one is read while one is worked on."""
    # Begun here: a loader starts its processes now, and no thread runs yet that they would copy half of.
    source, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="read ahead") as reader:
        coming = reader.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = reader.submit(next, source, end)
            yield item  # type: ignore[misc]


class Background:
    """Calls functions in threads of their own; each sees everything, one after the other, in order.

    Attributes:
        functions: called with the arguments of `add`.
    """

    def __init__(self, functions: Iterable[Callable[..., Any]]) -> None:
        self.functions = tuple(functions)
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix="evaluate") for _ in self.functions]
        self._waiting: deque[list[Future[Any]]] = deque()

    def add(self, *arguments: Any) -> None:
        """Hand arguments to every function; waits while too much is under way.

        Raises:
            Exception: the first that a function raised for what was added before.
        """
        self._settle(WAITING - 1)
        pairs = zip(self._threads, self.functions, strict=True)
        self._waiting.append([thread.submit(function, *arguments) for thread, function in pairs])

    def finish(self) -> None:
        """Wait for everything that was added.

        Raises:
            Exception: as `add`.
        """
        self._settle(0)

    def _settle(self, most: int) -> None:
        while self._waiting and (len(self._waiting) > most or all(one.done() for one in self._waiting[0])):
            for future in self._waiting.popleft():
                future.result()

    def stop(self) -> None:
        """Leave out what was not begun, and wait for what was: no file is left half-written."""
        for thread in self._threads:
            thread.shutdown(wait=True, cancel_futures=True)


@contextmanager
def in_background(functions: Iterable[Callable[..., Any]]) -> Iterator[Background]:
    """Run functions beside the block; at its end everything that was added is through.

    Raises:
        Exception: as `Background.add`.
    """
    background = Background(functions)
    try:
        yield background
        background.finish()
    finally:
        background.stop()


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Yield `function(item)` of each item, in their order, from some threads.

    Raises:
        Exception: that of the first item whose call raised one.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="frames") as pool:
        running: deque[Future[Result]] = deque()
        try:
            for item in items:
                running.append(pool.submit(function, item))
                while len(running) > 2 * threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
