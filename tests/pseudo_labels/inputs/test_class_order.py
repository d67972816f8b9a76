"""Which class a row of CAUSE's probe is: only as the heads say."""

from __future__ import annotations

from pathlib import Path

import pytest

from cups.errors import UserError
from cups.io.files import write_json
from pseudo_labels.inputs.class_order import class_order


def test_class_order__nobody_says_it_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    assert class_order(path) is None, "published heads have no settings"
    write_json(path, {"backbone": "texton"})
    assert class_order(path) is None
    write_json(path, {"class_order": [*range(26, -1, -1)]})
    assert class_order(path) == tuple(range(26, -1, -1))


@pytest.mark.parametrize("order", [[0, 1], [0] * 27, "0-26", [*range(1, 28)]])
def test_class_order__must_name_each_class_once(tmp_path: Path, order: object) -> None:
    write_json(tmp_path / "settings.json", {"class_order": order})
    with pytest.raises(UserError, match="class_order must name each of the classes 0-26 once"):
        class_order(tmp_path / "settings.json")
