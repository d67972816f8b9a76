"""Wrong uses: every flag of every entry script, and every key, refuses in one line what it cannot take.

Nothing is run: a script stops when its command line is read. What may happen then is a `UserError`, or
argparse's exit code 2, whose line names the flag or the key. Anything else is a traceback; a value
that no flag of its type can take, and that passes, is a silent fault.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import random
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cups.allowed import NAME, PATH, Reader, read_path
from cups.config import EVALUATION, FLAGS, build_config
from cups.config_keys import KEYS
from cups.configuration.key import Key
from cups.errors import UserError
from pseudo_labels.steps.flags import Settings, types_of
from pseudo_labels.steps.options import Submission

ROOT = Path(__file__).resolve().parents[2]
SEED = 15
MANY, EACH = 5, 2
"""Flags of a script that are tried, and values of each: a sample, for there are 15,000 pairs."""
NOT_FOR_USERS = ("cups.config_page", "studies.measured_child", "scripts.build_detectron2_wheel")
"""A page, a child of other scripts, a part of the set-up."""
LAST_STEPS = (
    "parse",
    "parse_step",
    "parse_whole",
    "parse_args",
    "take",
    "PredictionSettings",
    "ExportSettings",
)
"""What scripts call last before they work, by the names that they have there."""
WORK = ("write_dataset",)
"""What one works with."""
NOT_FINITE = ("nan", "inf", "-inf", "1e999")
NO_NUMBER = ("", "None", "x", "..", "a\0b", "[]", "{}", "0x", "1,5", "9" * 5000, "(" * 3000)
BAD_WHOLE = (*NO_NUMBER, *NOT_FINITE, "1.5", str(2**63), str(-(2**63)))
BAD_FLOAT = (*NO_NUMBER, *NOT_FINITE, "-1e30")
BAD_TEXT = ("a\0b", "a\nb", "\udcff")
BAD_PATH = (*BAD_TEXT, "", " ", "x" * 300, "x/" * 3000)
BAD_NAME = (*BAD_PATH, ".", "..", "../x", "a/b", "/", "x" * 201)
BAD_CHOICE = ("", "None", "x", "..", "-1", "a\0b")


class Parsed(BaseException):
    """A script has read its command line; no handler of errors takes this for one."""


def entry_scripts() -> list[str]:
    """Return the modules of everything that a user starts with Python."""
    folders = ("", "pseudo_labels", "pseudo_labels/evaluation", "studies", "studies/own_data", "benchmarks")
    files = [file for folder in (*folders, "scripts") for file in (ROOT / folder).glob("*.py")]
    files += [ROOT / "cups" / "data" / "toy_streets.py"]
    mains = [file for file in files if '\nif __name__ == "__main__":' in file.read_text()]
    names = (".".join(file.relative_to(ROOT).with_suffix("").parts) for file in mains)
    return sorted(name for name in names if name not in NOT_FOR_USERS)


SCRIPTS = entry_scripts()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty Cityscapes root, and the current folder."""
    (tmp_path / "leftImg8bit" / "train").mkdir(parents=True)
    (tmp_path / "inside").mkdir()
    for name in ("CITYSCAPES_ROOT", "STAGE1_FLAGS", "CUPS_OPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Script:
    """An entry script that stops when its command line is read."""

    def __init__(self, name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.main = importlib.import_module(name).main
        self.parsers: list[argparse.ArgumentParser] = []
        module = importlib.import_module(name)
        for step in LAST_STEPS:
            if hasattr(module, step):
                monkeypatch.setattr(module, step, self._last(getattr(module, step)))
        for work in WORK:
            monkeypatch.setattr(module, work, self._last(lambda *_, **__: None), raising=False)
        known = argparse.ArgumentParser.parse_known_args

        def noted(parser: argparse.ArgumentParser, *rest: Any, **more: Any) -> Any:
            self.parsers.append(parser)
            return known(parser, *rest, **more)

        monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", noted)
        self.base: list[str] = []
        self.outcome([])
        self.base = self._needed(place)

    @staticmethod
    def _last(step: Callable[..., Any]) -> Callable[..., Any]:
        def stop(*arguments: Any, **more: Any) -> Any:
            step(*arguments, **more)
            raise Parsed

        return stop

    def _needed(self, place: Path) -> list[str]:
        words = []
        for action in self.parsers[0]._actions:
            if action.dest == "scale" and action.required:
                words += ["--scale", "0.5"]
            elif action.dest == "cityscapes_root":
                words += ["--cityscapes_root", str(place)]
            elif action.dest == "starts":
                words += ["--starts", "random"]  # the other ones want a checkpoint
            elif action.required and action.option_strings:
                words += [
                    action.option_strings[-1],
                    str(place / "inside" if action.dest == "input" else place),
                ]
                words[-1] += "/out" if action.dest.startswith("output") else ""
        return words

    def outcome(self, words: Sequence[str]) -> str:
        """Return "parsed", "refused: why", or "crashed: why"."""
        try:
            self.main([*self.base, *words])
        except (Parsed, Submission):
            return "parsed"
        except UserError as error:
            return f"refused: {error}"
        except SystemExit as end:
            return f"refused: exit {end.code}" if end.code == 2 else f"crashed: exit {end.code}"
        except Exception as error:
            return f"crashed: {type(error).__name__}: {error}"
        return "crashed: went on to work"

    def flags(self) -> Iterator[argparse.Action]:
        """Yield the flags that take a value."""
        for action in self.parsers[0]._actions:
            if action.option_strings and action.nargs != 0 and action.dest != "help":
                yield action


def impossible(action: argparse.Action) -> tuple[str, ...]:
    """Return values that no flag of this type can take."""
    kind = action.type.kind if isinstance(action.type, Reader) else action.type
    if kind is int:
        return BAD_WHOLE
    if kind is float:
        return BAD_FLOAT
    if kind is read_path:
        return BAD_PATH
    return BAD_CHOICE if action.choices else BAD_TEXT


def test_scripts__are_found() -> None:
    assert {"train", "val", "predict", "pseudo_labels.pipeline", "studies.demo"} <= set(SCRIPTS)
    assert len(SCRIPTS) >= 40


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts__refuse_impossible_values_by_name(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Script(name, place, monkeypatch)
    assert script.outcome([]) == "parsed", "the rest would be refused for another reason"
    flags = [action for action in script.flags() if action.dest != "flags"]
    rng = random.Random(f"{SEED} {name}")
    faults = []
    for action in rng.sample(flags, min(MANY, len(flags))):
        flag, count = action.option_strings[-1], action.nargs if isinstance(action.nargs, int) else 1
        for value in rng.sample(values := impossible(action), min(EACH, len(values))):
            capsys.readouterr()
            found = script.outcome([f"{flag}={value}"] if count == 1 else [flag, *[value or "x\0"] * count])
            line = found if "exit 2" not in found else capsys.readouterr().err.splitlines()[-1]
            keys = [key for known in (*FLAGS, *EVALUATION) if known.name == action.dest for key in known.keys]
            named = any(word in line for word in (flag.strip("-"), *keys))
            if not found.startswith("refused") or not named or "\n" in found:
                faults.append(f"{flag} {value[:40]!r}: {line[:200]}")
    assert faults == []


@cache
def settings_classes() -> tuple[type[Settings], ...]:
    """Return every settings class that the scripts' modules know."""
    for name in SCRIPTS:
        importlib.import_module(name)
    found: list[type[Settings]] = [Settings]
    for kind in found:
        found += [sub for sub in kind.__subclasses__() if sub not in found]
    return tuple(kind for kind in found[1:] if kind.__module__.startswith(("pseudo_labels", "studies")))


def test_settings__refuse_impossible_values_by_name() -> None:
    """The layer behind the parsers: what Python callers give, and numbers that argparse lets pass."""
    bad: dict[Any, tuple[Any, ...]] = {
        int: (2**63, -(2**63), 1.5, "1", True, float("nan"), []),
        float: (float("nan"), float("inf"), -float("inf"), -1e30, "1", True, []),
        str: (*BAD_TEXT, 1, [], b"x"),
        bool: (1, "yes", None),
        Path: (*map(Path, BAD_TEXT), Path("x" * 300), 1),
    }
    faults, checked = [], 0
    for kind in settings_classes():
        hints = types_of(kind)
        for field in dataclasses.fields(typing.cast(Any, kind)):
            hint = next(iter(set(typing.get_args(hints[field.name])) - {type(None)}), hints[field.name])
            inner = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else hint
            if typing.get_origin(hints[field.name]) is tuple:
                inner = typing.get_args(hints[field.name])[0]
            several = tuple in (typing.get_origin(hint), typing.get_origin(hints[field.name]))
            values = [*bad[inner], *(BAD_NAME if field.metadata.get("allowed") is NAME else ())]
            values += BAD_PATH if field.metadata.get("allowed") is PATH else ()
            for value in values:
                checked += 1
                given = (value,) * 2 if several else value
                if (fault := _refusal_of(kind, field.name, given)) is not None:
                    faults.append(f"{kind.__name__}.{field.name} {value!r:.60}: {fault}")
    assert faults == [] and checked > 2000


def _refusal_of(kind: type[Settings], name: str, value: Any) -> str | None:
    """Return what is wrong with the way in which a class refuses a value, None if nothing is."""
    settings = object.__new__(kind)
    for field in dataclasses.fields(typing.cast(Any, kind)):
        plain = None if field.default is dataclasses.MISSING else field.default
        object.__setattr__(settings, field.name, value if field.name == name else plain)
    for field in dataclasses.fields(typing.cast(Any, kind)):
        if field.default is dataclasses.MISSING and field.name != name:
            example = {int: 1, float: 0.5, Path: Path("x"), str: "x"}
            object.__setattr__(settings, field.name, example[types_of(kind)[field.name]])
    try:
        Settings.__post_init__(settings)
    except UserError as error:
        told = str(error)
        return None if f"`{name}`" in told and "\n" not in told and len(told) < 400 else told
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "passed"


def impossible_of(name: str, key: Key) -> list[Any]:
    """Return text and values that a key cannot take."""
    default = key.default
    if isinstance(default, bool):
        return ["1", "yes", "None", "", "[]", 1, None, {"a": 1}]
    if isinstance(default, int):
        return [*BAD_WHOLE, "-1", "[1]", None, 1.5, [1], True]
    if isinstance(default, float):
        return [*BAD_FLOAT, None, "x", [1.0], True, -1e30]
    if isinstance(default, tuple):
        return [
            "1",
            "x",
            "None",
            "(nan,)",
            "('a',)",
            "(1e999, 1e999)",
            "(-1, -1, -1)",
            1,
            None,
            [None],
            ["x"],
        ]
    if key.check.accepts("x" * 10) and key.check.text:
        names = name in ("SYSTEM.RUN_NAME", "DATA.VAL_SPLIT")
        return list(BAD_NAME if names else BAD_TEXT if name == "SYSTEM.WANDB_PROJECT" else BAD_PATH)
    return ["nan", "-1", "1e999", "x", "", "..", "a\0b", ["x"], {"a": 1}]


def test_keys__refuse_impossible_values_by_name() -> None:
    rng, faults = random.Random(SEED), []
    for name, key in KEYS.items():
        for value in rng.sample(values := impossible_of(name, key), min(5, len(values))):
            try:
                build_config(None, [name, value])
            except UserError as error:
                if name not in str(error) or "\n" in str(error) or len(str(error)) > 600:
                    faults.append(f"{name} {value!r:.60}: told {error!s:.200}")
            except Exception as error:
                faults.append(f"{name} {value!r:.60}: {type(error).__name__}: {error}")
            else:
                faults.append(f"{name} {value!r:.60}: passed")
    assert faults == []


@pytest.mark.parametrize(
    ("script", "words", "named"),
    [
        ("train.py", ["--lr", "nan"], "TRAINING.ADAMW.LEARNING_RATE is nan; it must be a number"),
        ("predict.py", ["--checkpoint", "x", "--input", "x", "--output", ""], "--output: '': must be a path"),
        (
            "pseudo_labels/generate_depth_guided_instances.py",
            ["--cityscapes_root", "x", "--method_name", "../x"],
            "--method_name ../x: must be a name",
        ),
    ],
)
def test_whole_scripts__end_with_one_line_and_exit_code_2(
    script: str, words: list[str], named: str, tmp_path: Path
) -> None:
    command = [sys.executable, str(ROOT / script), *words]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 2 and named in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr and list(tmp_path.iterdir()) == []
