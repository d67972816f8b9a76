"""Stage 1 step by step, each command printed: from the images of a Cityscapes root to CUPS labels.

Backbone features, CAUSE-TR semantics, overclusters, depth, instances, CUPS format. Every step resumes, so a
killed run is simply started again. Labels are clusters without names, told into things and stuff by depth.
The published CAUSE heads have seen labels (refs/weights.yaml); --train does without any.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from cups.errors import UserError, as_flags
from cups.io.children import run_child
from pseudo_labels.settings.pipeline import PipelineSettings
from pseudo_labels.steps.flags import HelpFormatter, add_flags, take
from pseudo_labels.steps.further_flags import ONE_SCRIPT, by_script, joined, takers
from pseudo_labels.steps.stage1 import Command

PROGRAM = "run_stage1.sh"
USAGE = f"bash scripts/{PROGRAM} --cityscapes_root DIR [options] [further flags]"
FURTHER = "Further flags go to the steps that know them, e.g. --device cuda, --max_images 8."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say in one line which flag is wrong."""
        text = message.removeprefix("argument ").replace(": expected one argument", ": needs a value")
        raise UserError(text)


def parse(argv: Sequence[str]) -> tuple[PipelineSettings, dict[str, tuple[str, ...]], list[str]]:
    """Return the settings, the flags for single scripts by their names, and the flags that are left.

    Raises:
        UserError: an impossible value.
    """
    parser = _Parser(
        usage=USAGE, description=__doc__, epilog=FURTHER, formatter_class=HelpFormatter, allow_abbrev=False
    )
    add_flags(parser, PipelineSettings)
    parser.add_argument("--flags", action="append", metavar='SCRIPT "..."', help=ONE_SCRIPT)
    values, left = parser.parse_known_args(joined(argv))
    return take(PipelineSettings, values), by_script(values.flags or ()), left


def commands_of(argv: Sequence[str]) -> tuple[list[Command], PipelineSettings]:
    """Return the commands that a command line asks for, and its settings.

    Raises:
        UserError: an impossible value, or a flag that no step knows.
    """
    settings, only, left = parse(argv)
    options = replace(settings.options(), further=only)
    taken = takers(left, [command.script for command in options.commands()])
    commands = [
        replace(command, arguments=command.arguments + taken.get(command.script, ()))
        for command in options.commands()
    ]
    return commands, settings


def main(argv: Sequence[str] | None = None) -> int:
    """Look at all steps, then print and run them; returns the exit code of the first that fails."""
    commands, settings = commands_of(sys.argv[1:] if argv is None else argv)
    if not settings.dry_run:
        from pseudo_labels.preflight.report import preflight  # after parsing: --help is quick

        print(preflight(commands, settings.root, timed=settings.executor != "slurm"), flush=True)
    for command in () if settings.check else commands:
        line = command.line(sys.orig_argv[0])
        print(f"+ {shlex.join(line)}", flush=True)
        code = 0 if settings.dry_run else run_child(line)
        if code:
            return code
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        for line in as_flags(str(error)).splitlines():
            print(f"{PROGRAM}: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
