"""Every YAML file is read here, as data: no tag runs code, nothing in it multiplies, all faults are one line.

No other module imports `yaml`, and detectron2's own `merge_from_file` is not used: it constructs any Python
object that a file names (`tests/hostile/test_code_execution.py` watches).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cups.errors import UserError

BASE_KEY = "_BASE_"
MOST_BYTES = 2**18
"""Of a file; the largest of ours have a few thousand."""
MOST_NODES = 20_000
"""Values of a file, those that aliases repeat counted every time."""
DEEPEST = 40
"""Levels of a file."""
LONGEST_NUMBER = 60
"""Characters: Python takes quadratic time for the digits of a number."""
MOST_BASES = 50
"""Files that one file leads to."""


class _Loader(yaml.SafeLoader):
    """Plain values only, and a measure of them before the first is made."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._level = 0
        self._measures: dict[int, tuple[int, int]] = {}
        """Node -> (values, levels) of it with all aliases written out."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        alias = self.check_event(yaml.AliasEvent)
        self._level += 1
        if self._level > DEEPEST:
            raise yaml.YAMLError(f"more than {DEEPEST} levels")
        node: Any = super().compose_node(parent, index)
        self._level -= 1
        if not alias:
            self._measure(node)
        elif id(node) not in self._measures:
            raise yaml.YAMLError(f"an alias within what it stands for{_line(node.start_mark)}")
        return node

    def _measure(self, node: yaml.Node) -> None:
        values, levels = 1, 1
        for child in _children(node):
            below = self._measures[id(child)]
            values, levels = values + below[0], max(levels, below[1] + 1)
        if values > MOST_NODES or levels > DEEPEST:
            most = f"{MOST_NODES} values" if values > MOST_NODES else f"{DEEPEST} levels"
            raise yaml.YAMLError(f"more than {most}, aliases written out{_line(node.start_mark)}")
        if node.tag.endswith((":int", ":float")) and len(str(node.value)) > LONGEST_NUMBER:
            raise yaml.YAMLError(f"a number of {len(node.value)} characters{_line(node.start_mark)}")
        self._measures[id(node)] = (values, levels)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return []


def _line(mark: Any) -> str:
    return "" if mark is None else f", line {mark.line + 1}"


def load_yaml(path: Path, fix: str) -> Any:
    """Read a YAML file as plain containers and values; an empty one is None.

    Args:
        fix: what to do about a missing or damaged file, for the error.

    Raises:
        UserError: a missing file, another encoding than UTF-8, invalid YAML, a tag of anything but plain
            data, or more bytes, values or levels than any file of ours.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; {fix}")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise UserError(f"{path}: has {size} bytes, more than the {MOST_BYTES} that are read; {fix}")
    try:
        loader = _Loader(path.read_bytes().decode("utf-8"))
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); {fix}") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        # All but the first: a tag such as !!int before what is no whole number.
        raise UserError(f"{path}: not valid YAML ({_reason(error)}); {fix}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        text = f"{error.problem or error.context}{_line(error.problem_mark)}"
    elif isinstance(error, yaml.YAMLError):
        text = str(error)
    else:
        text = f"a value that its tag does not fit: {error}"
    return " ".join(text.split())[:200]


def yaml_text(content: Any) -> str:
    """Return plain containers and values as YAML, keys in their order."""
    return yaml.safe_dump(content, sort_keys=False)


@dataclass(frozen=True)
class Layer:
    """One file of a chain.

    Attributes:
        path: the file.
        content: its mapping, without `_BASE_`.
        above: how many files lead to it.
    """

    path: Path
    content: dict[Any, Any]
    above: int


def read_layers(path: Path, fix: str) -> list[Layer]:
    """Read a YAML mapping and those that it is based on, the lowest first, itself last.

    `_BASE_` of a file is a path relative to it, or a list of them, of which later ones win.

    Args:
        fix: what to do about a missing or damaged file, for the error.

    Raises:
        UserError: as `load_yaml`; a file that holds no mapping, a circle of bases, or too many of them.
    """
    layers: list[Layer] = []
    _add_layers(path, fix, (), layers)
    return layers


def _add_layers(path: Path, fix: str, above: tuple[Path, ...], layers: list[Layer]) -> None:
    place = path.resolve()
    if place in above:
        raise UserError(f"{path}: {BASE_KEY} leads back to itself; remove one of the links")
    if len(layers) >= MOST_BASES or len(above) >= DEEPEST:
        raise UserError(f"{path}: {BASE_KEY} leads to more than {MOST_BASES} files; use fewer")
    content = load_yaml(path, fix)
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no sections; a config looks like 'TRAINING: {{STEPS: 100}}'")
    bases = content.pop(BASE_KEY, None) or []
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{path}: {BASE_KEY} must be a path, or a list of paths")
    for base in bases:
        _add_layers(path.parent / base, fix, (*above, place), layers)
    layers.append(Layer(path, content, len(above)))
