"""Work in threads: its order, how little waits, and that no error is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from cups.errors import UserError
from cups.evaluation.background import WAITING, in_background, map_in_threads, read_ahead


def test_read_ahead__one_item_and_in_order() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for item in range(5):
            read.append(item)
            yield item

    for position, item in enumerate(read_ahead(items())):
        assert item == position
        assert len(read) <= position + 2
    assert read == [0, 1, 2, 3, 4]
    assert list(read_ahead([])) == []


def test_read_ahead__an_error_comes_where_its_item_would() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise UserError("2.png: truncated")

    coming = read_ahead(items())
    assert next(coming) == 1
    with pytest.raises(UserError, match=r"^2\.png: truncated$"):
        next(coming)


def test_in_background__each_function_sees_all_in_order_and_few_wait() -> None:
    first: list[int] = []
    second: list[int] = []
    threads: set[int] = set()
    added = 0
    most = 0

    def slow(item: int) -> None:
        nonlocal most
        time.sleep(0.002)
        most = max(most, added - len(first))
        first.append(item)
        threads.add(threading.get_ident())

    with in_background([slow, second.append]) as background:
        for added in range(1, 21):
            background.add(added)
    assert first == second == list(range(1, 21))
    assert most <= WAITING + 1 and threads.isdisjoint({threading.get_ident()}) and len(threads) == 1


@pytest.mark.parametrize("last", [3, 30])
def test_in_background__an_error_of_a_writer_ends_the_run(last: int) -> None:
    """Also where nothing is added after it."""
    written: list[int] = []

    def write(item: int) -> None:
        if item == 3:
            raise UserError("3.png: disk full")
        written.append(item)

    added = []
    with pytest.raises(UserError, match=r"^3\.png: disk full$"), in_background([write]) as background:
        for item in range(1, last + 1):
            background.add(item)
            added.append(item)
    assert written[:2] == [1, 2] and len(added) <= 3 + WAITING
    assert threading.active_count() < 20


def test_in_background__an_error_of_the_block_leaves_out_what_was_not_begun() -> None:
    started, go = threading.Event(), threading.Event()
    written: list[int] = []

    def write(item: int) -> None:
        started.set()
        go.wait(5)
        written.append(item)

    with pytest.raises(KeyboardInterrupt), in_background([write]) as background:
        for item in (1, 2, 3):
            background.add(item)
        started.wait(5)
        threading.Timer(0.05, go.set).start()
        raise KeyboardInterrupt
    assert written == [1]  # whole, and nothing behind it


def test_map_in_threads__in_order_bounded_and_with_its_error() -> None:
    def work(item: int) -> int:
        if item == 9:
            raise UserError("9.png: truncated")
        time.sleep(0.005 * (item == 0))
        return item**2

    assert list(map_in_threads(work, range(8), 3)) == [item**2 for item in range(8)]
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = map_in_threads(work, items(), 2)
    assert next(results) == 0 and len(taken) == 5
    with pytest.raises(UserError, match=r"^9\.png: truncated$"):
        list(results)
