"""Settings as flags, as JSON, and their checks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cups.allowed import COUNT, NAME, within
from cups.errors import UserError
from pseudo_labels.steps.flags import Settings, flag, other_default, parse, settings_of
from pseudo_labels.steps.frames import FrameSource


@dataclass(frozen=True)
class Paint(Settings):
    """Paint of the wall.

    Not in the help.
    """

    color: str = flag("red", "which, unless `bare`", choices=("red", "blue"))
    layers: tuple[int, ...] | None = flag(None, "thickness of each layer", allowed=COUNT)
    tool: Path | None = flag(None, "brush", decides=False)
    bare: bool = flag(False, "no paint")
    secret: str | None = flag(None, decides=False, hidden=True, allowed=NAME)


@dataclass(frozen=True)
class Wall(Paint):
    """Wall."""

    height: float = flag(meaning="metres", allowed=within(1, 100))
    color: str = other_default(Paint, "color", "blue")


def test_parse__types_defaults_and_tuples() -> None:
    (paint,) = parse("", ["--layers", "1", "2", "--tool", "x/y", "--bare"], Paint)
    assert paint == Paint("red", (1, 2), Path("x/y"), bare=True)
    (wall,) = parse("", ["--height", "2"], Wall)
    assert wall == Wall(height=2.0) and wall.color == "blue"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--heig", "2"], "--heig"),
        (["--height", "2", "--lay", "1"], "--lay"),
        (["--height", "2", "--color", "green"], "--color"),
        (["--height", "tall"], "--height"),
        ([], "--height"),
        (["--height", "2", "--bare", "yes"], "yes"),
    ],
)
def test_parse__bad_flags_end_with_exit_code_2(
    flags: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An abbreviation would mean another flag tomorrow."""
    with pytest.raises(SystemExit) as exit_code:
        parse("", flags, Wall)
    assert exit_code.value.code == 2 and named in capsys.readouterr().err


def test_settings__choices_hold_for_python_callers() -> None:
    with pytest.raises(UserError, match=r"^`color` green: unknown; choose from red, blue"):
        Paint(color="green")
    with pytest.raises(UserError, match=r"^`color` green"):
        dataclasses.replace(Paint(), color="green")
    assert Wall(height=1.0, color="red").color == "red"


def test_settings__required_ones_are_named() -> None:
    with pytest.raises(TypeError, match="height"):
        Wall()  # type: ignore[call-arg]


def test_settings_of__what_decides_and_what_is_recorded() -> None:
    paint = Paint(layers=(1, 2), tool=Path("x"), secret="s")
    assert settings_of(paint) == {"color": "red", "layers": [1, 2], "bare": False}
    assert settings_of(paint, decides_only=False) == settings_of(paint) | {"tool": "x"}


def test_parse__help_shows_groups_defaults_and_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        parse("Paints walls.", ["--help"], Wall)
    text = capsys.readouterr().out
    assert exit_code.value.code == 0 and "Paints walls." in text
    assert "paint of the wall:" in text and "wall:" in text and "Not in the help" not in text
    assert "which, unless --bare (default: blue)" in text and "--secret" not in text
    assert "no paint (default" not in text and "brush (default" not in text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"height": 0.5}, r"`height` 0\.5: must be at least 1"),
        ({"height": float("nan")}, "`height` nan: must be a number"),
        ({"height": float("inf")}, "`height` inf: must be a number"),
        ({"height": "2"}, "`height` 2: must be a number"),
        ({"height": True}, "`height` True: must be a number"),
        ({"layers": (1, 0)}, "`layers` 0: must be at least 1"),
        ({"layers": 1}, "`layers` 1: must be a tuple"),
        ({"tool": Path("a\0b")}, r"`tool` 'a\\x00b': must be a path"),
        ({"bare": 1}, "`bare` 1: must be True, False"),
        ({"secret": "../x"}, r"`secret` \.\./x: must be a name"),
        ({"color": None}, "`color` None: unknown; choose from"),
    ],
)
def test_settings__ranges_and_types_hold_for_python_callers(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"^{message}"):
        Wall(**{"height": 1.0, **values})


def test_parse__help_tells_the_range(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("", ["--help"], Wall)
    assert "[1-100]" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 300])
def test_parse__an_impossible_path_is_refused(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--tool ""` was the current folder."""
    with pytest.raises(SystemExit) as exit_code:
        parse("", ["--height", "2", "--tool", path], Wall)
    error = capsys.readouterr().err
    assert exit_code.value.code == 2 and "--tool" in error and "must be a path" in error


@dataclass(frozen=True)
class House(Settings):
    """House."""

    street: Path = flag(meaning="where it stands", environment="HOUSE_STREET")
    number: int | None = flag(None, "of the house", environment="HOUSE_NUMBER", unless=["name"])
    name: str | None = flag(None, "instead of `number`")


def test_parse__a_variable_stands_for_a_flag_that_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_STREET", "elm")
    monkeypatch.setenv("HOUSE_NUMBER", "7")
    assert parse("", [], House) == (House(street=Path("elm"), number=7),)
    assert parse("", ["--street", "oak", "--number", "3"], House) == (House(street=Path("oak"), number=3),)
    assert parse("", ["--name", "Villa"], House) == (House(street=Path("elm"), name="Villa"),)
    assert House(street=Path("ash")).number is None  # Python callers say what they mean


def test_parse__a_required_flag_without_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOUSE_STREET", "")
    with pytest.raises(SystemExit):
        parse("", [], House)
    assert "--street" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse("", ["--help"], House)
    assert "where it stands (default: $HOUSE_STREET)" in capsys.readouterr().out


def test_parse__the_root_of_cityscapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the flag, so that provenance is the same; another source of images stands in its place."""
    monkeypatch.setenv("CITYSCAPES_ROOT", "/data/cityscapes")
    (bare,), (given,) = (
        parse("", argv, FrameSource) for argv in ([], ["--cityscapes_root", "/data/cityscapes"])
    )
    assert bare == given and settings_of(bare, False) == settings_of(given, False)
    (plain,) = parse("", ["--image_dir", "images"], FrameSource)
    assert plain.cityscapes_root is None
    monkeypatch.delenv("CITYSCAPES_ROOT")
    with pytest.raises(UserError, match="set CITYSCAPES_ROOT"):
        parse("", [], FrameSource)


def test_parse__flags_for_all_scripts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each script takes those that it knows; the command line wins, and the log tells."""
    monkeypatch.setenv("STAGE1_FLAGS", "--layers 3 4 --tool 'my brush' --device cuda")
    with caplog.at_level("INFO"):
        assert parse("", ["--layers", "1"], Paint) == (Paint("red", (1,), Path("my brush")),)
    assert "STAGE1_FLAGS: --layers 3 4 --tool 'my brush'; not read here: --device" in caplog.text
    monkeypatch.setenv("STAGE1_FLAGS", "loose")
    with pytest.raises(UserError, match="loose: unknown; flags begin with --"):
        parse("", [], Paint)
