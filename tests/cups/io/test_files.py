"""Arrays, JSON, CSV and checksums."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.files import as_stored, file_sha256, read_json, read_npy, write_csv, write_json, write_npy


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b'{"name": "\xe9"}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1]", "holds no JSON object"),
        (b"null", "holds no JSON object"),
    ],
    ids=["cut short", "empty", "Latin-1", "too deep", "a list", "null"],
)
def test_read_json__one_line_with_the_fix(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_json(path, "run it again")
    message = str(error.value)
    assert message.startswith(f"{path}: {reason}") and message.endswith("; run it again")
    assert "\n" not in message


def test_read_json__missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "a.json", tmp_path):
        with pytest.raises(UserError, match="no such file; run it first"):
            read_json(path, "run it first")


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
