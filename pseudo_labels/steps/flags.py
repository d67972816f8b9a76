"""Command lines made of frozen settings: each field is a flag, so a default stands in one place.

A script names the settings that it reads; their fields become its flags, its `--help` and, through
`settings_of`, what `provenance.json` records and a resumed run compares.
"""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar, overload

from cups.errors import UserError, as_flags
from cups.io.files import as_stored

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


def flag(
    default: Any = dataclasses.MISSING,
    meaning: str = "",
    *,
    choices: Sequence[Any] | None = None,
    metavar: str | tuple[str, ...] | None = None,
    decides: bool = True,
    hidden: bool = False,
) -> Any:
    """Return a field of settings that is a flag of the same name too.

    Args:
        default: none makes the flag required (and the field one that Python callers must name).
        meaning: what the help says; other settings in backquotes.
        choices: the values allowed; Python callers are held to them too (`check_choices`).
        decides: whether the value changes what is written into files. A device or a number of threads does
            not: a resumed run may have another.
        hidden: leave it out of `--help`.
    """
    metadata = {"meaning": meaning, "choices": choices, "metavar": metavar, "decides": decides}
    required = default is dataclasses.MISSING
    return dataclasses.field(default=default, metadata={**metadata, "hidden": hidden}, kw_only=required)


def other_default(kind: type, name: str, default: Any) -> Any:
    """Return a flag like the one of this name in a settings class, with another default."""
    (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
    return dataclasses.field(default=default, metadata=field.metadata)


class Settings:
    """Base of frozen dataclasses whose fields are made by `flag`."""

    def __post_init__(self) -> None:
        """Refuse values that `choices` does not list; subclasses add their own checks behind this one."""
        for field in dataclasses.fields(typing.cast(Any, self)):
            allowed, value = field.metadata.get("choices"), getattr(self, field.name)
            for one in value if isinstance(value, tuple) else (value,):
                if allowed is not None and one is not None and one not in allowed:
                    words = ", ".join(map(str, allowed))
                    raise UserError(f"`{field.name}` {one}: unknown; choose from {words}")


def require_at_least(least: float, settings: Any, *names: str) -> None:
    """Raise a `UserError` for the first of these fields that is given and below `least`."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < least:
            raise UserError(f"`{name}` {value}: must be at least {least:g}")


def settings_of(settings: Any, decides_only: bool = True) -> dict[str, Any]:
    """Return the fields as JSON holds them: those that decide what is written, or all but hidden ones."""
    chosen = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if (field.metadata.get("decides", True) or not decides_only) and not field.metadata.get("hidden")
    }
    return as_stored(chosen)


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
    options: dict[str, Any] = {"help": argparse.SUPPRESS if hidden else as_flags(meaning)}
    required = field.default is dataclasses.MISSING
    options.update({"required": True} if required else {"default": field.default})
    if hint is bool:
        return {**options, "action": "store_true"}
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        hint, options["nargs"] = parts[0], "+" if Ellipsis in parts else len(parts)
    for name in ("choices", "metavar"):
        if field.metadata.get(name) is not None:
            options[name] = field.metadata[name]
    return {**options, "type": hint}


def take(kind: type[A], values: argparse.Namespace) -> A:
    """Return the settings of one class out of what was parsed.

    Raises:
        UserError: an impossible value.
    """
    names = [field.name for field in dataclasses.fields(typing.cast(Any, kind))]
    given = {name: getattr(values, name) for name in names}
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
        argv: None: the process's own.

    Raises:
        UserError: an impossible value. Unknown flags end the process with exit code 2, as argparse does.
    """
    parser = make_parser(description)
    for kind in kinds:
        add_flags(parser, kind)
    values = parser.parse_args(argv)
    return tuple(take(kind, values) for kind in kinds)
