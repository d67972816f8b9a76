"""Running a step over its frames: one by one, in worker processes, or in batches through a network."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cups.errors import UserError
from cups.io.children import start_worker, worker_context

if TYPE_CHECKING:
    from torch import Tensor  # a step without a network starts twice as fast without it

SIGNAL_SECONDS = 0.2
"""Time in which a signal that ended the workers has reached this process, too: that is then what is told."""
Item = TypeVar("Item")
Result = TypeVar("Result")
Outcome = tuple[Item, UserError | None]
"""An item that was worked on, and what was wrong with it."""
Outcomes = Generator[Outcome[Item], None, None]


@dataclass(frozen=True)
class Batched(Generic[Item]):
    """A step with a network in its middle: files are read and written in threads while it runs.

    Args:
        load: item -> (tensor, anything that `compute` needs besides); in a thread.
        compute: (B, ...) of tensors of one shape, and the B others -> B outputs; in the main thread.
        save: (item, output) -> None; in a thread.
        batch_size: largest B; consecutive items of one shape share a batch.
    """

    load: Callable[[Item], tuple[Tensor, Any]]
    compute: Callable[[Tensor, Sequence[Any]], Sequence[Any]]
    save: Callable[[Item, Any], None]
    batch_size: int = 1


def run_serial(items: Sequence[Item], process: Callable[[Item], Any]) -> Outcomes[Item]:
    """Yield each item after `process(item)`, with the `UserError` that it raised."""
    for item in items:
        try:
            process(item)
        except UserError as error:
            yield item, error
        else:
            yield item, None


_process: Callable[[Any], Any] | None = None


def _start_worker(process: Callable[[Any], Any]) -> None:
    global _process
    start_worker()
    use_one_thread()
    _process = process


def use_one_thread() -> None:
    """Let the libraries of this worker process leave the other cores to the other workers."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of those that are imported later
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)


def _work(item: Any) -> UserError | None:
    assert _process is not None
    try:
        _process(item)
    except UserError as error:
        return error
    return None


def _call(item: Any) -> Any:
    assert _process is not None
    return _process(item)


def run_pool(items: Sequence[Item], process: Callable[[Item], Any], workers: int) -> Outcomes[Item]:
    """Yield items as `workers` processes finish them, with the `UserError` that each raised.

    Raises:
        UserError: a worker died.
    """
    with _processes(process, workers) as pool:
        todo = iter(items)
        running: dict[Future[UserError | None], Item] = {}
        try:
            while True:
                while len(running) < 2 * workers and (item := next(todo, None)) is not None:
                    running[pool.submit(_work, item)] = item
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()


def run_map(
    items: Iterable[Item], process: Callable[[Item], Result], workers: int
) -> Generator[Result, None, None]:
    """Yield `process(item)` of each item, in their order: from `workers` processes, or from here with none.

    The same results in the same order for any number of workers, so what sums them up gives the same bytes.

    Raises:
        UserError: that of the first item that raised one, or a worker died.
    """
    if workers < 1:
        yield from map(process, items)
        return
    with _processes(process, workers) as pool:
        todo = iter(items)
        running: deque[Future[Result]] = deque()
        try:
            while True:
                # Few wait to be taken: results may be large.
                for item in islice(todo, 2 * workers - len(running)):
                    running.append(pool.submit(_call, item))
                if not running:
                    return
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


@contextmanager
def _processes(process: Callable[[Item], Any], workers: int) -> Iterator[ProcessPoolExecutor]:
    """Hold worker processes that have got `process`.

    Raises:
        UserError: one of them died.
    """
    context = worker_context(["cv2", *(["torch"] if "torch" in sys.modules else [])])
    try:
        with ProcessPoolExecutor(workers, context, _start_worker, (process,)) as pool:
            yield pool
    except BrokenProcessPool:
        time.sleep(SIGNAL_SECONDS)
        raise UserError("`num_workers`: a worker process died, likely out of memory; use fewer") from None


def run_batched(items: Sequence[Item], step: Batched[Item], threads: int) -> Outcomes[Item]:
    """Yield items as they are written, with the `UserError` that each raised."""
    saving: deque[tuple[Item, Future[None]]] = deque()
    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="frames") as pool:
        try:
            for batch, bad in _batches(items, step, pool, max(1, threads)):
                yield from bad
                yield from _compute(batch, step, pool, saving)
                while saving and (saving[0][1].done() or len(saving) > step.batch_size + threads):
                    yield _outcome(*saving.popleft())
            while saving:
                yield _outcome(*saving.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


Loaded = list[tuple[Item, "Tensor", Any]]


def _batches(
    items: Sequence[Item], step: Batched[Item], pool: ThreadPoolExecutor, threads: int
) -> Iterator[tuple[Loaded[Item], list[Outcome[Item]]]]:
    """Yield batches of loaded items of one shape, each with the items that could not be loaded till then."""
    loading: deque[tuple[Item, Future[tuple[Tensor, Any]]]] = deque()
    batch: Loaded[Item] = []
    bad: list[Outcome[Item]] = []
    todo = iter(items)
    while True:
        # One batch is read ahead while another is computed; every thread has something to read.
        while len(loading) < step.batch_size + threads and (item := next(todo, None)) is not None:
            loading.append((item, pool.submit(step.load, item)))
        if not loading:
            break
        item, future = loading.popleft()
        try:
            tensor, other = future.result()
        except UserError as error:
            bad.append((item, error))
            continue
        if batch and (len(batch) == step.batch_size or batch[0][1].shape != tensor.shape):
            yield batch, bad
            batch, bad = [], []
        batch.append((item, tensor, other))
    yield batch, bad


def _compute(
    batch: Loaded[Item],
    step: Batched[Item],
    pool: ThreadPoolExecutor,
    saving: deque[tuple[Item, Future[None]]],
) -> Iterator[Outcome[Item]]:
    if not batch:
        return
    import torch

    items, tensors, others = zip(*batch, strict=True)
    try:
        outputs = step.compute(torch.stack(tensors), others)
    except UserError as error:
        yield from ((item, error) for item in items)
        return
    saving.extend(
        (item, pool.submit(step.save, item, output)) for item, output in zip(items, outputs, strict=True)
    )


def _outcome(item: Item, future: Future[None]) -> Outcome[Item]:
    try:
        future.result()
    except UserError as error:
        return item, error
    return item, None
