"""Flags that a run of several scripts hands on: each script gets those that its own `--help` lists."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from cups.errors import UserError
from pseudo_labels.steps.stage1 import is_step

ONE_SCRIPT = 'flags for one script only, e.g. --flags train_cause "--batch_size 32"'
"""Help of the flag that `by_script` reads."""


def flags_of(script: str) -> frozenset[str]:
    """Return the flags of a script of this repository ("pseudo_labels/train_cause.py").

    It must offer `main(argv)`, whose `--help` lists each flag on a line that is indented by two spaces, as
    argparse does.
    """
    text = io.StringIO()
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        module.main(["--help"])
    return frozenset(re.findall(r"^ {2}(--\w+)", text.getvalue(), re.MULTILINE))


def takers(words: Sequence[str], scripts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the words that each script takes.

    Args:
        words: flags with their values.
        scripts: paths in the repository, e.g. those of `stage1.Command.script`.

    Raises:
        UserError: a flag that none of the scripts knows.
    """
    groups = list(grouped(words))
    known = {script: flags_of(script) for script in scripts} if groups else {}
    taken: dict[str, tuple[str, ...]] = dict.fromkeys(known, ())
    for name, group in groups:
        knowing = [script for script, flags in known.items() if name in flags]
        if not knowing:
            raise UserError(f"{name}: no step of this run knows this flag")
        for script in knowing:
            taken[script] += group
    return taken


def grouped(words: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the name of each flag of a command line, and the flag with its values.

    Raises:
        UserError: a word that belongs to no flag.
    """
    starts = [index for index, word in enumerate(words) if word.startswith("--")]
    if words and 0 not in starts:
        raise UserError(f"{words[0]}: unknown; flags begin with --")
    for start, end in itertools.pairwise([*starts, len(words)]):
        yield words[start].partition("=")[0], tuple(words[start:end])


def joined(argv: Sequence[str]) -> list[str]:
    """Return the words with `--flags SCRIPT "..."` as one of them: argparse takes no value that is a flag."""
    words, joined = list(argv), []
    while words:
        word = words.pop(0)
        if word == "--flags":
            if len(words) < 2:
                raise UserError("`flags`: needs a script's name and its flags")
            word = f"--flags={words.pop(0)} {words.pop(0)}"
        joined.append(word)
    return joined


def by_script(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return {script: its flags} of texts like "train_cause --batch_size 32".

    Raises:
        UserError: no such script.
    """
    only = {}
    for script, _, words in (text.partition(" ") for text in texts):
        script = script.removesuffix(".py")
        if not is_step(script):
            raise UserError(f"`flags` {script}: pseudo_labels/ holds no such script")
        only[script] = tuple(words.split())
    return only
