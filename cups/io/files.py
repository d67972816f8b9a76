"""Files that are whole or not there: atomic writing; text, JSON, CSV and NPY; checksums."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from cups.errors import UserError

Kind = TypeVar("Kind")


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: readers never see half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def is_complete_png(path: Path) -> bool:
    """Return whether a PNG file was written to its end (its last chunk is IEND)."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        if file.tell() < 20:
            return False
        file.seek(-8, os.SEEK_END)
        return file.read(4) == b"IEND"


def _plain(value: Any) -> Any:
    """Return JSON-ready data: nan and infinity as None, arrays and tensors as lists, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, (str, bool, int)) else str(value)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically."""
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = 2) -> None:
    """Write JSON atomically: nan and infinity as null, arrays as lists, paths as text.

    Args:
        indent: spaces of each level; None writes a single line of ASCII without a line break, as COCO's tools
            do.
    """
    text = json.dumps(_plain(content), indent=indent, ensure_ascii=indent is None, allow_nan=False)
    write_text(path, text if indent is None else text + "\n")


def as_stored(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return content as a JSON file gives it back: tuples as lists, what JSON lacks (paths) as text."""
    stored: dict[str, Any] = json.loads(json.dumps(dict(content), default=str))
    return stored


@overload
def read_json(path: Path, fix: str) -> dict[str, Any]: ...


@overload
def read_json(path: Path, fix: str, kind: type[Kind]) -> Kind: ...


def read_json(path: Path, fix: str, kind: type[Any] = dict) -> Any:
    """Read a JSON file.

    Args:
        fix: what to do about a missing or damaged file, for the error.
        kind: type of the outermost value.

    Raises:
        UserError: missing file, another encoding than UTF-8, invalid JSON, an outermost value that is no
            `kind`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; {fix}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not valid JSON ({reason}); {fix}") from None
    if not isinstance(content, kind):
        raise UserError(f"{path}: holds no JSON {'object' if kind is dict else kind.__name__}; {fix}")
    return content


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as CSV, atomically, its columns named in the first line; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def check_fields(content: Any, kind: type[Any], path: Path, fix: str) -> None:
    """Refuse the content of a JSON file that lacks fields of a dataclass, or has others.

    Raises:
        UserError: naming the file and the fix.
    """
    known = {item.name for item in fields(kind)}
    needed = {
        item.name for item in fields(kind) if item.default is MISSING and item.default_factory is MISSING
    }
    if not isinstance(content, dict) or not needed <= content.keys() <= known:
        raise UserError(f"{path}: is no {kind.__name__} record; {fix}")


def is_readable(path: Path) -> bool:
    """Return whether a file exists and is complete (PNG and NPY are checked, others must not be empty)."""
    if not path.is_file():
        return False
    if path.suffix == ".png":
        return is_complete_png(path)
    if path.suffix == ".npy":
        try:
            np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError):
            return False
        return True
    return path.stat().st_size > 0


def write_npy(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy, atomically."""
    atomic_write(path, lambda temporary: np.save(temporary, array, allow_pickle=False))


def read_npz(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read named arrays of an .npz file; of the `optional` ones those that it holds.

    Raises:
        UserError: missing or damaged file, an array that holds objects, or a required one is missing.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    try:
        with np.load(path, allow_pickle=False) as stored:
            if isinstance(stored, np.ndarray):
                raise ValueError("one array without a name")
            return {name: stored[name] for name in (*required, *(n for n in optional if n in stored))}
    except KeyError as error:
        raise UserError(f"{path}: holds no array {error.args[0].split()[0]}; check the file") from None
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: unreadable arrays ({error}); copy or generate the file again") from None


def read_npy(path: Path, ndim: int | None = None) -> np.ndarray:
    """Read a .npy array.

    Raises:
        UserError: missing or cut-short file, or another number of dimensions than `ndim`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the step that writes it")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: unreadable array ({error}); generate the file again") from None
    if ndim is not None and array.ndim != ndim:
        raise UserError(
            f"{path}: array of shape {array.shape}, expected {ndim} dimensions; generate it again"
        )
    return array
