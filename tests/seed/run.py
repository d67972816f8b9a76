"""Runs command lines of Python scripts one after the other in this process, as `python SCRIPT ...` would.

Called as `run.py COMMANDS`, a JSON list of lists of words. It stops at the first command that fails, with
its exit code. One process for many: importing torch takes longer than most of them.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from pathlib import Path

ALL_DONE = "all commands ran"


def run(words: list[str]) -> int:
    """Return the exit code of `python words...`."""
    sys.argv = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def cpu_seconds() -> float:
    """Return the CPU time of this process and of the workers that it has ended."""
    return sum(os.times()[:4])


def main() -> int:
    for words in json.loads(Path(sys.argv[1]).read_text()):
        print("$", *words, file=sys.stderr, flush=True)
        before = cpu_seconds()
        code = run(words)
        sys.stdout.flush()  # what it said stands before its end
        print(f"exit code {code} after {cpu_seconds() - before:.1f} s of CPU", file=sys.stderr, flush=True)
        if code:
            return code
    print(ALL_DONE, file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
