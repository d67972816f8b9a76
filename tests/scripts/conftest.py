"""Scripts, and entry points at the root, are imported by name, as when Python runs one of them."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cups import config

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]


class Parsed(Exception):
    """Raised in place of a script's work once its arguments are understood."""


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Sequence[str]], None]:
    """Return a function that fails unless a module's own command line understands the arguments.

    Of trainings and evaluations that includes the configuration, its `KEY VALUE` pairs and all.
    """
    parse, build = argparse.ArgumentParser.parse_args, config.build_config

    def parse_and_stop(self: argparse.ArgumentParser, *arguments: Any) -> None:
        parse(self, *arguments)
        raise Parsed

    def build_and_stop(*arguments: Any) -> None:
        build(*arguments)
        raise Parsed

    def check(module: str, arguments: Sequence[str]) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
            patched.setattr(config, "build_config", build_and_stop)
            with pytest.raises(Parsed):
                importlib.import_module(module).main(list(arguments))

    return check
