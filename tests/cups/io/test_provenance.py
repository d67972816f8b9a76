"""Ground truth is carried from inputs and weights to outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cups.errors import UserError
from cups.io.fingerprint import changed_weights
from cups.io.provenance import (
    code_version,
    describe_input,
    ground_truth_answer,
    known_weights,
    read_provenance,
    trained_weights,
    write_provenance,
)


def fact(folder: Path, **arguments: object) -> bool | None:
    return write_provenance(folder, script="test", arguments={}, **arguments)["uses_ground_truth"]  # type: ignore[arg-type]


def test_write_provenance__raw_images_are_label_free(tmp_path: Path) -> None:
    images, measured = tmp_path / "photos", [tmp_path / name for name in ("disparity", "camera")]
    assert fact(tmp_path / "pseudo_a", images=images, inputs=measured[:1]) is False
    assert fact(tmp_path / "depth_a", images=tmp_path / "leftImg8bit", inputs=measured) is False
    stored = read_provenance(tmp_path / "pseudo_a")
    assert stored is not None and len(stored["inputs"]) == 2
    assert stored["code_version"] == code_version()


def test_write_provenance__a_label_upstream_is_never_lost(tmp_path: Path) -> None:
    assert fact(tmp_path / "pseudo_a", inputs=[tmp_path / "gtFine"]) is True
    assert fact(tmp_path / "pseudo_b", inputs=[tmp_path / "pseudo_a"]) is True
    assert fact(tmp_path / "cups_pseudo_labels", inputs=[tmp_path / "pseudo_b"]) is True


def test_write_provenance__a_lost_file_is_unknown_not_false(tmp_path: Path) -> None:
    (tmp_path / "codes_cause_tr").mkdir()
    assert fact(tmp_path / "pseudo_a", inputs=[tmp_path / "codes_cause_tr"]) is None
    assert fact(tmp_path / "pseudo_b", inputs=[tmp_path / "pseudo_a"]) is None
    assert fact(tmp_path / "pseudo_c", inputs=[tmp_path / "pseudo_a"], uses_ground_truth=True) is True


@pytest.mark.parametrize("name", ["masks", "u2seg", "depth", "val.json", "labels.npz"])
def test_write_provenance__what_another_tool_made_is_unknown(tmp_path: Path, name: str) -> None:
    """Folders of any name that no step of ours wrote once counted as raw data: as free of labels."""
    made = tmp_path / "elsewhere" / name
    (made if not made.suffix else made.parent).mkdir(parents=True)
    if made.suffix:
        made.write_text("{}")
    assert fact(tmp_path / "out", images=tmp_path / "photos", inputs=[made]) is None
    assert ground_truth_answer(None) == "unknown"


def test_describe_input__a_split_says_itself(tmp_path: Path) -> None:
    told = tmp_path / "split.json"
    for stated in (True, False, None):
        told.write_text(json.dumps({"things": [1], "stuffs": [0], "uses_ground_truth": stated}))
        assert describe_input(told)["uses_ground_truth"] is stated


def test_write_provenance__weights_count(tmp_path: Path) -> None:
    assert fact(tmp_path / "a", weights=[known_weights("dinov2_vitb14")]) is False
    assert fact(tmp_path / "b", weights=[known_weights("cause_segment_tr")]) is True
    assert fact(tmp_path / "c", weights=[known_weights("never heard of")]) is None


def test_trained_weights__without_provenance_beside_them_are_unknown(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    file.write_bytes(b"weights")
    assert trained_weights(file)["uses_ground_truth"] is None
    fact(tmp_path)
    assert trained_weights(file)["uses_ground_truth"] is False


def test_changed_weights__tells_files_of_other_content(tmp_path: Path) -> None:
    encoder, depth = tmp_path / "encoder.pth", tmp_path / "depth.pth"
    encoder.write_bytes(b"encoder")
    depth.write_bytes(b"depth")
    made = write_provenance(
        tmp_path / "out", script="test", arguments={}, weights=[trained_weights(tmp_path, encoder, depth)]
    )
    moved = tmp_path / "moved"
    moved.mkdir()
    files = [file.rename(moved / file.name) for file in (encoder, depth)]
    assert changed_weights(made, [trained_weights(moved, *files)]) == []
    files[1].write_bytes(b"depth of another training")
    assert changed_weights(made, [trained_weights(moved, *files)]) == ["depth.pth"]
    assert changed_weights({}, [trained_weights(moved, *files)]) == []  # from before digests were kept


def test_read_provenance__broken_json_names_the_file(tmp_path: Path) -> None:
    assert read_provenance(tmp_path) is None
    (tmp_path / "provenance.json").write_text("{")
    with pytest.raises(UserError, match=r"provenance\.json"):
        read_provenance(tmp_path)
