"""Files that are whole or not there: atomic writing; text, JSON, CSV, NPY and NPZ; checksums."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from cups.errors import UserError
from cups.failures import FULL, causes
from cups.io import npy
from cups.io.archives import check_directory
from cups.io.limits import (
    AGAIN,
    ARRAY_BYTES,
    JSON_BYTES,
    MEBIBYTE,
    TEXT_BYTES,
    UNPACKED_BYTES,
    check_bytes,
    check_file,
)

Kind = TypeVar("Kind")


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: readers never see half a file.

    Raises:
        OSError: a full disk or quota among others, of which libraries tell each in its own way.
    """
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
    except Exception as error:
        _tell_of_full_disk(error, path, temporary)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _tell_of_full_disk(error: Exception, path: Path, temporary: Path) -> None:
    """Raise an `OSError` that names folder and sizes, if a full disk or quota is behind an error."""
    full = next(
        (cause for cause in causes(error) if isinstance(cause, OSError) and cause.errno in FULL), None
    )
    free = shutil.disk_usage(path.parent).free
    written = temporary.stat().st_size if temporary.exists() else 0
    # The stream of torch tells of a failed write without its reason.
    if full is None and not (free < MEBIBYTE and any("iostream" in str(cause) for cause in causes(error))):
        return
    number = errno.ENOSPC if full is None else full.errno
    text = (
        f"{os.strerror(number or errno.ENOSPC)}, {free / MEBIBYTE:.1f} MiB are free; {path.name} needs more "
        f"than the {written / MEBIBYTE:.1f} MiB that were written"
    )
    raise OSError(number, text, str(path.parent)) from error


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


def read_text(path: Path, fix: str, limit: int = TEXT_BYTES) -> str:
    """Read a text file.

    Args:
        fix: what to do about a missing file, for the error.
        limit: of its size, in bytes.

    Raises:
        UserError: missing file, a folder, no right to read it, a larger one, another encoding than UTF-8.
    """
    check_file(path, fix, limit)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text, see byte {error.start}; save it as UTF-8") from None


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
        UserError: a file that `read_text` refuses, invalid JSON, an outermost value that is no `kind`.
    """
    text = read_text(path, fix, JSON_BYTES)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
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


def read_csv(path: Path, fix: str) -> list[dict[str, str]]:
    """Read a table whose columns are named in its first line: a dict for each row.

    Raises:
        UserError: a file that `read_text` refuses, or no table.
    """
    try:
        return list(csv.DictReader(io.StringIO(read_text(path, fix))))
    except csv.Error as error:
        raise UserError(f"{path}: not a table ({error}); {fix}") from None


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
            _npy_header(path)
        except (ValueError, OSError):
            return False
        return True
    return path.stat().st_size > 0


def _npy_header(path: Path) -> npy.Header:
    with path.open("rb") as file:
        return npy.read_header(file.read(npy.HEADER), path.stat().st_size)


def npy_shape(path: Path) -> tuple[int, ...] | None:
    """Return the shape of a .npy array from its header; None for a file that is missing, cut or no array."""
    try:
        return _npy_header(path).shape
    except (ValueError, OSError):
        return None


def write_npy(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy with a digest behind it, atomically."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            npy.write(file, array)

    atomic_write(path, write)


def read_npz(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read named arrays of an .npz file; of the `optional` ones those that it holds.

    Raises:
        UserError: missing or damaged file, arrays of objects or larger than is read, a required one
            is missing.
    """
    check_file(path, "check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            check_directory(archive)
            members = archive.infolist()
            check_bytes(path, sum(member.file_size for member in members), UNPACKED_BYTES)
            # All are read, which compares them with their CRC32: a damaged name looks like a missing array.
            data = {
                member.filename.removesuffix(".npy"): bytearray(archive.read(member)) for member in members
            }
        arrays = {name: npy.parse(data[name]) for name in (*required, *optional) if name in data}
    except UserError:
        raise
    except Exception as error:  # damaged archives raise nearly anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path}: unreadable arrays ({reason}); {AGAIN}") from None
    if missing := [name for name in required if name not in arrays]:
        raise UserError(f"{path}: holds no array {missing[0]}; check the file")
    return arrays


def read_npy(path: Path, ndim: int | None = None) -> np.ndarray:
    """Read a .npy array, and compare it with its digest if it has one (files of `write_npy`).

    Raises:
        UserError: missing, cut or changed file, or another number of dimensions than `ndim`.
    """
    size = check_file(path, "run the step that writes it")
    try:
        _npy_header(path)
        check_bytes(path, size, ARRAY_BYTES)
        data = bytearray(size)
        with path.open("rb") as file:
            if file.readinto(data) != size:
                raise ValueError("it was cut while it was read")
        array = npy.parse(data)
    except (ValueError, MemoryError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: unreadable array ({reason}); {AGAIN}") from None
    if ndim is not None and array.ndim != ndim:
        raise UserError(
            f"{path}: array of shape {array.shape}, expected {ndim} dimensions; generate it again"
        )
    return array
