"""Runs command lines of Python scripts one after the other in this process, as `python SCRIPT ...` would.

Called as `run.py COMMANDS RESULTS`: a JSON list of lists of words, and where to write the list of exit codes.
One process for a block of commands: importing torch takes longer than most of them.
"""

from __future__ import annotations

import json
import runpy
import sys
import traceback
from pathlib import Path


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


def main() -> None:
    commands, results = map(Path, sys.argv[1:])
    codes = []
    for words in json.loads(commands.read_text()):
        print("$", *words, file=sys.stderr, flush=True)
        codes.append(run(words))
        print(f"exit code {codes[-1]}", file=sys.stderr, flush=True)
        results.write_text(json.dumps(codes))


if __name__ == "__main__":
    main()
