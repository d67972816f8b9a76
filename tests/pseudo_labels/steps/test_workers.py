"""Batches through a network, results of processes: order, shapes, and what happens to bad items."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from cups.errors import UserError
from pseudo_labels.steps.workers import Batched, run_batched, run_map


class Doubler:
    """Items are numbers; odd tens are of another shape, 13 cannot be read, 17 not be written."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.written: dict[int, float] = {}
        self.threads: set[int] = set()

    def load(self, item: int) -> tuple[Tensor, int]:
        self.threads.add(threading.get_ident())
        if item == 13:
            raise UserError("13.png: truncated")
        return torch.full((1 + item // 10 % 2,), float(item)), item

    def compute(self, batch: Tensor, items: Sequence[int]) -> list[float]:
        self.batches.append(list(items))
        if 42 in items:
            raise UserError("42: beyond the range")
        return [2 * float(row[0]) for row in batch]

    def save(self, item: int, output: float) -> None:
        if item == 17:
            raise UserError("17.npy: disk full")
        self.written[item] = output


def run(items: list[int], batch_size: int, threads: int = 3) -> tuple[Doubler, dict[int, str | None]]:
    step = Doubler()
    outcomes = run_batched(items, Batched(step.load, step.compute, step.save, batch_size), threads)
    return step, {item: error and str(error) for item, error in outcomes}


def test_run_batched__batches_hold_one_shape_in_order() -> None:
    step, outcomes = run([1, 2, 3, 10, 11, 4, 5], batch_size=2)
    assert step.batches == [[1, 2], [3], [10, 11], [4, 5]]
    assert step.written == {item: 2.0 * item for item in outcomes} and len(outcomes) == 7
    assert threading.get_ident() not in step.threads


@pytest.mark.parametrize("threads", [0, 1, 8])
def test_run_batched__bad_items_do_not_take_others_with_them(threads: int) -> None:
    items = [11, 12, 13, 14, 17, 18]
    step, outcomes = run(items, batch_size=3, threads=threads)
    assert {item for item, error in outcomes.items() if error} == {13, 17}
    assert outcomes[13] == "13.png: truncated" and outcomes[17] == "17.npy: disk full"
    assert sorted(step.written) == [11, 12, 14, 18] and len(outcomes) == len(items)


def test_run_batched__a_failing_network_names_the_batch() -> None:
    _, outcomes = run([41, 42, 43], batch_size=2)
    assert [bool(outcomes[item]) for item in (41, 42, 43)] == [True, True, False]


def test_run_batched__other_errors_are_not_swallowed() -> None:
    def broken(batch: Tensor, others: Sequence[int]) -> list[float]:
        raise RuntimeError("a bug")

    step = Doubler()
    with pytest.raises(RuntimeError, match="a bug"):
        list(run_batched([1, 2], Batched(step.load, broken, step.save), threads=2))


def test_run_batched__nothing_to_do() -> None:
    assert run([], batch_size=4)[1] == {}


def slow_square(item: int) -> int:
    """Earlier items take longer, so that they end last."""
    if item == 13:
        raise UserError("13.png: truncated")
    if item == 17:
        os._exit(1)
    time.sleep(0.02 * max(0, 3 - item))
    return item**2


@pytest.mark.parametrize("workers", [0, 2])
def test_run_map__results_come_in_the_order_of_the_items(workers: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(8):
            taken.append(item)
            yield item

    results = run_map(items(), slow_square, workers)
    assert next(results) == 0
    assert len(taken) <= max(1, 2 * workers)  # no more are under way than workers need
    assert list(results) == [1, 4, 9, 16, 25, 36, 49]


@pytest.mark.parametrize("workers", [0, 2])
def test_run_map__an_error_ends_it(workers: int) -> None:
    results = run_map([1, 2, 13, 4], slow_square, workers)
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(UserError, match=r"^13\.png: truncated$"):
        next(results)


def test_run_map__a_worker_that_died_is_told() -> None:
    with pytest.raises(UserError, match="`num_workers`: a worker process died"):
        list(run_map([1, 17, 3], slow_square, 2))
