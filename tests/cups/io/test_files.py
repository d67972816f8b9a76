"""Arrays, JSON, CSV and checksums."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.files import (
    as_stored,
    atomic_write,
    file_sha256,
    is_readable,
    read_json,
    read_npy,
    read_npz,
    read_text,
    write_csv,
    write_json,
    write_npy,
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1]", "holds no JSON object"),
        (b"null", "holds no JSON object"),
    ],
    ids=["cut short", "empty", "too deep", "a list", "null"],
)
def test_read_json__one_line_with_the_fix(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_json(path, "run it again")
    message = str(error.value)
    assert message.startswith(f"{path}: {reason}") and message.endswith("; run it again")
    assert "\n" not in message


def test_read_json__another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"name": "\xe9"}')
    with pytest.raises(UserError, match=r"a\.json: not UTF-8 text, see byte 10; save it as UTF-8$"):
        read_json(path, "run it again")
    path.write_bytes("\ufeff{}".encode())
    assert read_json(path, "") == {}, "as Windows writes UTF-8"


def test_read_json__missing_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "gone.json")
    for path, what in (
        (tmp_path / "a.json", "no such file"),
        (tmp_path, "no such file, but a folder"),
        (tmp_path / "link.json", f"a link to {tmp_path}/gone.json, which is missing"),
    ):
        with pytest.raises(UserError) as error:
            read_json(path, "run it first")
        assert str(error.value) == f"{path}: {what}; run it first"


def test_read_json__other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('["über", 1]', encoding="utf-8")
    assert read_json(path, "", list) == ["über", 1]
    assert read_json(path, "", object) == ["über", 1]
    with pytest.raises(UserError, match="holds no JSON str; fix it"):
        read_json(path, "fix it", str)


CONTENT: dict[str, Any] = {"a": [1, 2.5, None, True], "b": {"c": "ü"}}


def test_write_json__bytes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, CONTENT)
    assert path.read_bytes() == (json.dumps(CONTENT, indent=2, ensure_ascii=False) + "\n").encode()
    write_json(path, CONTENT, indent=4)
    assert path.read_bytes() == (json.dumps(CONTENT, indent=4, ensure_ascii=False) + "\n").encode()
    write_json(path, CONTENT, indent=None)
    assert path.read_bytes() == json.dumps(CONTENT).encode(), "as COCO's tools write it"


def test_write_json__what_json_lacks(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"nan": math.nan, "path": Path("x/y"), "array": np.arange(3), 5: np.float32(0.5)})
    assert read_json(path, "") == {"nan": None, "path": "x/y", "array": [0, 1, 2], "5": 0.5}


def test_as_stored__is_what_a_reader_gets() -> None:
    assert as_stored({"sizes": (1, 2), "root": Path("x"), "none": None}) == {
        "sizes": [1, 2],
        "root": "x",
        "none": None,
    }


def test_write_csv__reads_back(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ("name", "value"), [("a, b", 0.1), ("c", None)])
    assert (tmp_path / "a.csv").read_bytes() == b'name,value\n"a, b",0.1\nc,\n'
    assert next(csv.DictReader((tmp_path / "a.csv").open())) == {"name": "a, b", "value": "0.1"}


def test_file_sha256__of_more_than_a_block(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_read_npy__bad_files(tmp_path: Path) -> None:
    path = tmp_path / "codes.npy"
    with pytest.raises(UserError, match="no such file"):
        read_npy(path)
    write_npy(path, np.zeros((3, 4), dtype=np.float16))
    with pytest.raises(UserError, match=r"codes\.npy: array of shape \(3, 4\)"):
        read_npy(path, ndim=3)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="unreadable"):
        read_npy(path)


def test_write_npy__any_reader_opens_it(tmp_path: Path) -> None:
    path, array = tmp_path / "codes.npy", np.arange(12, dtype=np.float16).reshape(3, 4)
    for stored in (array, np.asfortranarray(array), array[:0], np.array("text")):
        write_npy(path, stored)
        for found in (read_npy(path), np.load(path), np.load(path, mmap_mode="r")):
            assert found.dtype == stored.dtype
            np.testing.assert_array_equal(found, stored)
    assert path.read_bytes()[-16:-9] == b"\ncrc32 "


def test_read_npy__of_earlier_versions_without_a_digest(tmp_path: Path) -> None:
    path, array = tmp_path / "codes.npy", np.arange(12, dtype=np.float16).reshape(3, 4)
    np.save(path, array)
    np.testing.assert_array_equal(read_npy(path), array)
    read_npy(path)[0, 0] = 1  # one's own copy
    assert is_readable(path)
    with path.open("ab") as file:
        file.write(b"more")
    assert not is_readable(path)
    with pytest.raises(UserError, match=r"codes\.npy: unreadable array \(156 bytes, but an array \(3, 4\)"):
        read_npy(path)


def test_read_npz__names_and_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, one=np.arange(3), names=np.array(["x"], dtype=object))
    assert list(read_npz(path, ["one"], ["two"])) == ["one"], "objects that nobody asked for are left alone"
    with pytest.raises(UserError, match="holds no array two"):
        read_npz(path, ["two"])
    with pytest.raises(UserError, match="values of type object"):
        read_npz(path, ["names"])


def test_read_text__limit_is_raised_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a" * (2**20 + 1))
    with pytest.raises(
        UserError, match=r"a\.yaml: 1 MiB are more than the 1 that are read; .*CUPS_MAX_FILE_MB"
    ):
        read_text(path, "", 2**20)
    monkeypatch.setenv("CUPS_MAX_FILE_MB", "2")
    assert len(read_text(path, "", 2**20)) == 2**20 + 1
    monkeypatch.setenv("CUPS_MAX_FILE_MB", "many")
    with pytest.raises(UserError, match="CUPS_MAX_FILE_MB many: must be a whole number of MiB"):
        read_text(path, "")


def test_atomic_write__a_full_disk_names_folder_and_room(tmp_path: Path) -> None:
    """Linux has a file on a full disk, so that what libraries raise is real."""
    path = tmp_path / "last.ckpt"

    def fill(temporary: Path) -> None:
        with Path("/dev/full").open("wb") as full:
            full.write(b"0" * 10**6)

    with pytest.raises(OSError) as error:
        atomic_write(path, fill)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path))
    assert "MiB are free; last.ckpt needs more than the 0.0 MiB that were written" in str(
        error.value.strerror
    )
    assert not list(tmp_path.iterdir())
