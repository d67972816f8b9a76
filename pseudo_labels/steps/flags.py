"""Command lines made of frozen settings: each field is a flag, so a default stands in one place.

A script names the settings that it reads; their fields become its flags, its `--help` and, through
`settings_of`, what `provenance.json` records and a resumed run compares.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import shlex
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, overload

from cups.allowed import PATH, SWITCH, TEXT, Check, is_number, is_whole, quoted, read_path
from cups.errors import UserError, as_flags
from cups.io.files import as_stored
from pseudo_labels.steps.further_flags import grouped

log = logging.getLogger(__name__)
FLAGS_VARIABLE = "STAGE1_FLAGS"
"""Environment variable with flags for all scripts; each takes those that it knows."""

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


def flag(
    default: Any = dataclasses.MISSING,
    meaning: str = "",
    *,
    choices: Sequence[Any] | None = None,
    allowed: Check | None = None,
    metavar: str | tuple[str, ...] | None = None,
    decides: bool = True,
    hidden: bool = False,
    environment: str | None = None,
    unless: Sequence[str] = (),
) -> Any:
    """Return a field of settings that is a flag of the same name too.

    Args:
        default: none makes the flag required (and the field one that Python callers must name).
        meaning: what the help says; other settings in backquotes.
        choices: the values allowed; Python callers are held to them too.
        allowed: which values of its type are, of a tuple each item; its words stand in the help. Numbers and
            text need it, or `choices`: see `tests/pseudo_labels/test_settings.py`.
        decides: whether the value changes what is written into files. A device or a number of threads does
            not: a resumed run may have another.
        hidden: leave it out of `--help`.
        environment: variable that a command line without the flag takes the value from; Python callers do
            not.
        unless: flags that stand in place of this one; with one of them the variable does not count.
    """
    metadata = {"meaning": meaning, "choices": choices, "metavar": metavar, "decides": decides}
    more = {"allowed": allowed, "hidden": hidden, "environment": environment, "unless": unless}
    required = default is dataclasses.MISSING
    return dataclasses.field(default=default, metadata={**metadata, **more}, kw_only=required)


def other_default(kind: type, name: str, default: Any, allowed: Check | None = None) -> Any:
    """Return a flag like the one of this name in a settings class, with another default (and range)."""
    (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
    changed = {} if allowed is None else {"allowed": allowed}
    return dataclasses.field(default=default, metadata={**field.metadata, **changed})


OF_TYPE: Mapping[Any, Check] = {
    int: Check("a whole number", is_whole),
    float: Check("a number", is_number),
    str: TEXT,
    bool: SWITCH,
    Path: PATH,
}
"""What every value of a type is held to, whatever its flag allows: no infinity, no empty path."""


@cache
def types_of(kind: type) -> dict[str, Any]:
    """Return the types of a class's fields by their names."""
    return typing.get_type_hints(kind)


def wrong_value(field: dataclasses.Field[Any], hint: Any, value: Any) -> tuple[Any, str] | None:
    """Return what is wrong with the value of a field: the value, or the item of it, and what it must be."""
    if value is None and isinstance(hint, types.UnionType):
        return None
    hint = _without_none(hint)
    items, one = (value,), hint
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        counts = Ellipsis in parts or (isinstance(value, tuple) and len(value) == len(parts))
        if not isinstance(value, tuple) or not counts:
            return value, "must be a tuple" if Ellipsis in parts else f"must be {len(parts)} values"
        items, one = value, parts[0]
    allowed, choices = field.metadata.get("allowed"), field.metadata.get("choices")
    for item in items:
        checks = [check for check in (OF_TYPE.get(one), allowed) if check is not None]
        if choices is not None and item not in choices:
            return item, f"unknown; choose from {', '.join(map(str, choices))}"
        for check in checks:
            if wrong := check.wrong(item):
                return item, wrong
    return None


class Settings:
    """Base of frozen dataclasses whose fields are made by `flag`."""

    def __post_init__(self) -> None:
        """Refuse values of another type, beyond what `allowed` says, or that `choices` does not list.

        Subclasses add their own checks behind this one: of values that must fit each other.
        """
        hints = types_of(typing.cast(Any, type(self)))
        for field in dataclasses.fields(typing.cast(Any, self)):
            found = wrong_value(field, hints[field.name], getattr(self, field.name))
            if found is not None:
                raise UserError(f"`{field.name}` {quoted(str(found[0]))}: {found[1]}")


def settings_of(settings: Any, decides_only: bool = True) -> dict[str, Any]:
    """Return the fields as JSON holds them: those that decide what is written, or all but hidden ones."""
    chosen = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if (field.metadata.get("decides", True) or not decides_only) and not field.metadata.get("hidden")
    }
    return as_stored(chosen)


def recipe_of(settings: Any) -> dict[str, Any]:
    """Return the fields that decide what is written, but no paths: where a file lies decides nothing."""
    paths = {
        field.name
        for field in dataclasses.fields(settings)
        if isinstance(getattr(settings, field.name), Path)
    }
    return {name: value for name, value in settings_of(settings).items() if name not in paths}


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one that the text does not tell."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.default is None or action.default is False or "(default" in (action.help or "")
        return action.help if told else super()._get_help_string(action)


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help shows defaults; abbreviated flags are refused.

    An abbreviation that works today means another flag tomorrow.
    """
    return argparse.ArgumentParser(description=description, formatter_class=HelpFormatter, allow_abbrev=False)


def add_flags(parser: argparse.ArgumentParser, kind: type) -> None:
    """Add a flag for each field of a settings class.

    Each class that brings fields is a group of the help, headed by the first line of its docstring.
    """
    hints = typing.get_type_hints(kind)
    by_name = {field.name: field for field in dataclasses.fields(kind)}
    for owner in reversed(kind.__mro__):
        names = [name for name in vars(owner).get("__annotations__", {}) if name in by_name]
        if names:
            title = (owner.__doc__ or owner.__name__).strip().partition("\n")[0].rstrip(".")
            group = parser.add_argument_group(title[0].lower() + title[1:])
            for name in names:
                group.add_argument(f"--{name}", **_options(by_name.pop(name), hints[name]))


def _options(field: dataclasses.Field[Any], hint: Any) -> dict[str, Any]:
    """Return the keywords of `add_argument` for a field of this type."""
    hidden, meaning = field.metadata.get("hidden"), field.metadata.get("meaning", "")
    variable = field.metadata.get("environment")
    if variable:
        meaning = f"{meaning} (default: ${variable})"
    options: dict[str, Any] = {"help": argparse.SUPPRESS if hidden else as_flags(meaning)}
    required = field.default is dataclasses.MISSING and not (variable and os.environ.get(variable))
    default = None if field.default is dataclasses.MISSING else field.default
    options.update({"required": True} if required else {"default": default})
    if hint is bool:
        return {**options, "action": "store_true"}
    allowed = field.metadata.get("allowed")
    if allowed is not None and allowed.told and not hidden:
        options["help"] += f" [{allowed.allowed}]"
    hint = _without_none(hint)
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        hint, options["nargs"] = parts[0], "+" if Ellipsis in parts else len(parts)
    for name in ("choices", "metavar"):
        if field.metadata.get(name) is not None:
            options[name] = field.metadata[name]
    return {**options, "type": read_path if hint is Path else hint}


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not types.NoneType)
    return hint


def _from_environment(kind: type, values: argparse.Namespace) -> dict[str, Any]:
    """Return the values of flags that were not given and whose variable is set."""
    hints, found = typing.get_type_hints(kind), {}
    for field in dataclasses.fields(typing.cast(Any, kind)):
        text = os.environ.get(field.metadata.get("environment") or "")
        instead = any(getattr(values, name, None) for name in field.metadata.get("unless", ()))
        if text and not instead and not getattr(values, field.name):
            found[field.name] = _without_none(hints[field.name])(text)
    return found


def take(kind: type[A], values: argparse.Namespace) -> A:
    """Return the settings of one class out of what was parsed, and of the environment.

    Raises:
        UserError: an impossible value.
    """
    names = [field.name for field in dataclasses.fields(typing.cast(Any, kind))]
    given = {**{name: getattr(values, name) for name in names}, **_from_environment(kind, values)}
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})


def take_part(kind: type[A], settings: Any) -> A:
    """Return the part of some settings that a base class of theirs holds."""
    names = [field.name for field in dataclasses.fields(typing.cast(Any, kind))]
    return kind(**{name: getattr(settings, name) for name in names})


@overload
def parse(description: str | None, argv: Sequence[str] | None, a: type[A], /) -> tuple[A]: ...
@overload
def parse(description: str | None, argv: Sequence[str] | None, a: type[A], b: type[B], /) -> tuple[A, B]: ...
@overload
def parse(
    description: str | None, argv: Sequence[str] | None, a: type[A], b: type[B], c: type[C], /
) -> tuple[A, B, C]: ...


def parse(description: str | None, argv: Sequence[str] | None, /, *kinds: type) -> tuple[Any, ...]:
    """Read a command line into settings, one object for each class named.

    Example:
        >>> frames, run, settings = parse(__doc__, argv, FrameSource, FrameRun, InstanceSettings)

    Args:
        description: what `--help` says of the script, its docstring.
        argv: None: the process's own. Flags in the environment variable `FLAGS_VARIABLE` stand before them,
            so those of the command line win.

    Raises:
        UserError: an impossible value. Unknown flags end the process with exit code 2, as argparse does.
    """
    parser = make_parser(description)
    for kind in kinds:
        add_flags(parser, kind)
    words = sys.argv[1:] if argv is None else argv
    values = parser.parse_args([*_flags_for_all(parser), *words])
    return tuple(take(kind, values) for kind in kinds)


def _flags_for_all(parser: argparse.ArgumentParser) -> list[str]:
    """Return those flags of `FLAGS_VARIABLE` that a parser knows, and log which it does not."""
    try:
        groups = list(grouped(shlex.split(os.environ.get(FLAGS_VARIABLE, ""))))
    except ValueError as error:
        raise UserError(f"{FLAGS_VARIABLE}: {error}; quote each value like a word of a shell") from None
    known = [word for name, group in groups if name in parser._option_string_actions for word in group]
    if groups:
        others = [name for name, _ in groups if name not in parser._option_string_actions]
        unread = f"; not read here: {', '.join(others)}" if others else ""
        log.info("%s: %s%s", FLAGS_VARIABLE, shlex.join(known), unread)
    return known
