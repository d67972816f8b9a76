"""Zip archives, torch's above all, checked before they are read: damage, and sizes that lie.

Each record of a torch file has a CRC32 beside it, which torch writes and does not look at. Files of the
format before (a pickle, not a zip file) have none.
"""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import Any

from cups.errors import UserError
from cups.io.limits import AGAIN, check_file

ZIP = b"PK\x03\x04"
FOLDER = 0x10
"""Of the attributes: torch reads nothing of a record with it, and gives what the memory held before."""
END = 22
"""Bytes of the last part of a zip archive, without its comment."""
BLOCK = 2**22
BYTES = {
    "ComplexDoubleStorage": 16,
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    **dict.fromkeys(("FloatStorage", "IntStorage", "QInt32Storage"), 4),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("CharStorage", "ByteStorage", "BoolStorage", "UntypedStorage", "QInt8Storage"), 1),
}
"""Of an element, by the kind of storage."""


def check_archive(path: Path) -> None:
    """Compare every record of a torch file with its CRC32, and the sizes it tells with those it has.

    Nothing in the file is run, and no more is read at once than a few MB and the list of its tensors. Files
    that are no zip archive pass.

    Raises:
        UserError: no such file, a record that has changed, or that lies about its size.
    """
    check_file(path, "check the path")
    with path.open("rb") as file:
        if file.read(len(ZIP)) != ZIP:
            return
    try:
        with zipfile.ZipFile(path) as archive:
            records = {info.filename: info for info in archive.infolist()}
            _check_records(archive, records)
            _check_storages(archive, records)
    except Exception as error:  # damaged archives raise nearly anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path}: not a readable checkpoint, it is damaged ({reason}); {AGAIN}") from None


def check_directory(archive: zipfile.ZipFile) -> None:
    """Refuse a zip archive whose list of records lost some: a damaged length makes one swallow the next.

    Raises:
        ValueError: it has another number of records than its end tells, or comments.
    """
    assert archive.fp is not None
    archive.fp.seek(-END - len(archive.comment), os.SEEK_END)
    (told,) = struct.unpack("<10xH10x", archive.fp.read(END))
    records = archive.infolist()
    # Neither NumPy nor torch comments on a record. The largest number stands for more.
    if told not in (len(records), 2**16 - 1) or any(record.comment for record in records):
        raise ValueError("its list of records is damaged")


def _check_records(archive: zipfile.ZipFile, records: dict[str, zipfile.ZipInfo]) -> None:
    check_directory(archive)
    if len(records) < len(archive.infolist()):
        raise ValueError("two records of one name")
    # Torch can be told to leave the digests out; it writes 0 then.
    told = any(info.CRC for info in records.values() if info.file_size)
    for info in records.values():
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"{info.filename} is packed, which torch never does")
        if info.external_attr & FOLDER:
            raise ValueError(f"{info.filename} is marked as a folder")
        if not told:
            info.CRC = None  # type: ignore[assignment]
            continue
        with archive.open(info) as record:
            while record.read(BLOCK):
                pass


def _check_storages(archive: zipfile.ZipFile, records: dict[str, zipfile.ZipInfo]) -> None:
    """Compare what the pickle says of each storage with its record: older torch reads beyond the end."""
    for name in (name for name in records if name.endswith("/data.pkl")):
        folder = name.removesuffix("data.pkl")
        reader = _StorageList(BytesIO(archive.read(name)))
        reader.load()
        for kind, key, count in reader.storages:
            record = records.get(f"{folder}data/{key}")
            if record is None:
                raise ValueError(f"no record data/{key}")
            if kind in BYTES and record.file_size != count * BYTES[kind]:
                raise ValueError(f"data/{key} has {record.file_size} bytes, not {count} x {BYTES[kind]}")


class _Inert:
    """Stands for whatever a pickle names: takes anything, does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, _: Any, __: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        """Take an item of a list."""

    def add(self, _: Any) -> None:
        """Take an item of a set."""

    def extend(self, _: Any) -> None:
        """Take items of a list."""


class _StorageList(pickle._Unpickler):
    """Reads which storages a torch pickle refers to; no name in it is looked up.

    The unpickler in Python: that in C takes memory for as much as a damaged number says.
    """

    def __init__(self, file: BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: list[tuple[str, str, int]] = []

    def find_class(self, module: str, name: str) -> Any:
        return OrderedDict if (module, name) == ("collections", "OrderedDict") else type(name, (_Inert,), {})

    def persistent_load(self, told: Any) -> _Inert:
        _, kind, key, _, count = told
        self.storages.append((kind.__name__, str(key), int(count)))
        return _Inert()
