"""How an entry script ends: what is said, and its exit code."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from cups.errors import NothingFound, Stopped, UserError, run_main


def _raise(error: BaseException) -> Callable[[], int]:
    def main() -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("`min_area` 0: must be at least 1"), 2, "error: --min_area 0: must be at least 1\n"),
        (NothingFound("photos: the camera stands still"), 3, "error: photos: the camera stands still\n"),
        (Stopped("stopped at step 7; `resume` goes on", 15), 143, "stopped at step 7; --resume goes on\n"),
        (Stopped("stopped at step 7", 2), 130, "stopped at step 7\n"),
        (Stopped("", 0), 0, ""),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to continue\n"),
    ],
)
def test_run_main__one_line_and_an_exit_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run_main(_raise(error))
    assert exit_.value.code == code
    assert capsys.readouterr().err == said


def test_run_main__a_place_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def full() -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "out"))

    with pytest.raises(SystemExit) as end:
        run_main(full)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/out: Read-only file system; write somewhere else\n"


def test_run_main__a_fault_of_ours_stays_a_traceback() -> None:
    with pytest.raises(KeyError):
        run_main(_raise(KeyError("x")))


def test_run_main__shows_the_traceback_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUPS_TRACEBACK", "1")
    with pytest.raises(UserError):
        run_main(_raise(UserError("x")))
