"""Things get classes of whole objects: two folders that go on together, one set of classes for all images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.errors import NothingFound, UserError
from cups.io.file_names import SPLIT_FILE
from cups.io.files import write_npy
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance, write_provenance
from cups.io.thing_stuff import read_split
from cups.ops.regions import Regions
from pseudo_labels.convert_to_cups_format import main as convert
from pseudo_labels.generate_depth_guided_instances import main as make_instances
from pseudo_labels.generate_object_classes import main
from pseudo_labels.generators import kept_objects as objects
from pseudo_labels.generators import object_classes as generator
from pseudo_labels.generators.object_classes import STORE
from pseudo_labels.steps.label_kind import LabelKind
from tests.pseudo_labels.conftest import CAR, HEIGHT, WIDTH, render

FRAMES, CLUSTERS = 4, 5
STREET, HOUSE, THING_A, THING_B = 0, 1, 3, 4
"""Cluster 2 occurs nowhere; a car is of either cluster of things, at random."""
SEMANTICS, INSTANCES = "pseudo_semantic_raw_k5", "pseudo_instance_depth_guided_raw_k5"
OUT, OUT_INSTANCES = "pseudo_semantic_objects_raw_k5", "pseudo_instance_depth_guided_objects_raw_k5"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: Any) -> Path:
    """Images, depth, clusters in which cars are two things by chance, and their instances."""
    root = tmp_path_factory.mktemp("objects")
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (256, 3)).astype(np.uint8)
    for frame in range(FRAMES):
        depth, train_ids, ids = render(0.1 * frame)
        name = f"f{frame}"
        write_png(root / "photos" / f"{name}.png", colors[ids % 256])
        write_npy(root / "out" / "depth_spidepth" / f"{name}.npy", depth.astype(np.float32))
        things = np.where(rng.random(depth.shape) < 0.5, THING_A, THING_B)
        clusters = np.where(train_ids == CAR, things, np.where(train_ids == 0, STREET, HOUSE))
        write_png(root / "out" / SEMANTICS / f"{name}.png", clusters.astype(np.uint8))
    kind = LabelKind("clusters", CLUSTERS).content()
    write_provenance(root / "out" / SEMANTICS, script="test", arguments={}, labels=kind)
    write_provenance(root / "out" / "depth_spidepth", script="test", arguments={}, depth={"source": "stereo"})
    split = {"things": [THING_A, THING_B], "stuffs": [0, 1, 2]}
    (root / "out" / SEMANTICS / SPLIT_FILE).write_text(json.dumps(split))
    make_instances([*places(root), "--semantic_subdir", SEMANTICS, "--min_area", "100"])
    return root


@pytest.fixture
def root(prepared: Path, tmp_path: Path) -> Path:
    """A root of its own with the inputs as links."""
    (tmp_path / "out").mkdir()
    for path in (prepared / "photos", *(prepared / "out").iterdir()):
        if path.name.startswith(("photos", "depth", SEMANTICS, INSTANCES)):
            (tmp_path / path.relative_to(prepared)).symlink_to(path)
    return tmp_path


def places(root: Path) -> list[str]:
    return ["--image_dir", str(root / "photos"), "--output_root", str(root / "out")]


def run(root: Path, *more: str) -> int:
    chosen = ("--semantic_subdir", SEMANTICS, "--object_classes", "2", "--min_area", "100")
    return main([*places(root), *chosen, *more])


def maps(root: Path, name: str) -> list[np.ndarray]:
    return [read_ids(root / "out" / name / f"f{frame}.png") for frame in range(FRAMES)]


def test_main__cars_of_mixed_clusters_are_two_kinds_of_objects(root: Path) -> None:
    assert run(root, "--show", "2") == 0
    split = read_split(root / "out" / OUT / SPLIT_FILE)
    assert split.things == (3, 4) and split.stuffs == (0, 1, 2)
    for semantic, instances, frame in zip(
        maps(root, OUT), maps(root, OUT_INSTANCES), range(FRAMES), strict=True
    ):
        _, train_ids, ids = render(0.1 * frame)
        assert set(np.unique(instances)) == {0, 1, 2}
        # The wide far car and the narrow near one; the front one is the largest area in no frame's classes.
        kinds = [set(np.unique(semantic[instances == number])) for number in (1, 2)]
        assert kinds in ([{3}, {4}], [{4}, {3}])
        assert (semantic[train_ids == 0] == STREET).mean() > 0.98
        # Outlines are those of the image, up to what depth joins to the street.
        overlap = (instances > 0) & (ids >= 26000)
        assert overlap.sum() / ((instances > 0) | (ids >= 26000)).sum() > 0.9
    same = {
        frozenset(np.unique(s[i == 1]))
        for s, i in zip(maps(root, OUT), maps(root, OUT_INSTANCES), strict=True)
    }
    assert len(same) == 1
    kind = (read_provenance(root / "out" / OUT) or {})["labels"]
    assert (kind["kind"], kind["num_classes"]) == ("clusters", 5)
    assert "labels" not in (read_provenance(root / "out" / OUT_INSTANCES) or {})
    assert (read_provenance(root / "out" / OUT) or {})["uses_ground_truth"] is False
    assert (root / "out" / OUT / "contact_sheet.png").is_file()


def test_main__both_folders_convert_without_being_named_together(root: Path) -> None:
    run(root)
    convert([*places(root), "--semantic_subdir", OUT, "--output_dir", str(root / "labels")])
    about = json.loads((root / "labels" / "format.json").read_text())
    assert about["instance_subdir"] == OUT_INSTANCES and about["num_pseudo_classes"] == 5
    assert sorted(about["split"]["things"]) == [3, 4]
    provenance = json.loads((root / "labels" / "provenance.json").read_text())
    assert provenance["uses_ground_truth"] is False
    with pytest.raises(UserError, match=f"{INSTANCES}: made from {SEMANTICS}, not {OUT}"):
        convert(
            [*places(root), "--semantic_subdir", OUT, "--instance_subdir", INSTANCES]
            + ["--output_dir", str(root / "others")]
        )


def test_main__shards_and_a_second_run_give_the_same_files(root: Path, prepared: Path) -> None:
    run(root)
    whole = maps(root, OUT) + maps(root, OUT_INSTANCES)
    for frame in (1, 2):
        (root / "out" / OUT / f"f{frame}.png").unlink()
    run(root, "--num_workers", "2")
    assert all(
        np.array_equal(*pair) for pair in zip(whole, maps(root, OUT) + maps(root, OUT_INSTANCES), strict=True)
    )
    for name in (OUT, OUT_INSTANCES):
        for path in (root / "out" / name).glob("*.png"):
            path.unlink()
    for shard in ("1", "0"):
        run(root, "--num_shards", "2", "--shard", shard)
    assert all(
        np.array_equal(*pair) for pair in zip(whole, maps(root, OUT) + maps(root, OUT_INSTANCES), strict=True)
    )


def test_main__few_objects_are_a_class_each(root: Path, caplog: Any) -> None:
    run(root, "--object_classes", "4")
    assert "8 objects in 4 images for 4 classes: so few tell little" in caplog.text
    run(root, "--object_classes", "100", "--overwrite")
    assert "8 objects in 4 images, so as many classes, not 100" in caplog.text
    assert read_split(root / "out" / OUT / SPLIT_FILE).things == tuple(range(3, 11))
    with pytest.raises(NothingFound, match="no object in 4 images"):
        run(root, "--min_area", "100000", "--overwrite")
    assert not (root / "out" / OUT / STORE).exists()


class Counted:
    """Counts how often the regions of an image are found."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.original = 0, objects.even_regions
        monkeypatch.setattr(objects, "even_regions", self)

    def __call__(self, image: np.ndarray) -> Regions:
        self.calls += 1
        return self.original(image)


def test_main__each_frame_is_described_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    run(root)
    assert counted.calls == FRAMES and not (root / "out" / OUT / STORE).exists()
    kept = maps(root, OUT) + maps(root, OUT_INSTANCES)
    monkeypatch.setattr(objects.ReadObjects, "_kept", lambda *_: None)
    run(root, "--overwrite")
    assert counted.calls == 3 * FRAMES
    again = maps(root, OUT) + maps(root, OUT_INSTANCES)
    assert all(np.array_equal(*pair) for pair in zip(kept, again, strict=True))


def test_main__what_a_killed_run_kept_is_of_the_same_files(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generator, "run_step", killed)
        with pytest.raises(KeyboardInterrupt):
            run(root)
    store = root / "out" / OUT / STORE
    assert len(list(store.glob("*.npz"))) == FRAMES
    damaged, image = store / "f0.npz", root / "photos" / "f1.png"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    state = image.stat()
    recipe = objects._state
    newer = (state.st_size, state.st_mtime_ns + 1)
    monkeypatch.setattr(objects, "_state", lambda path: newer if path == image else recipe(path))
    counted = Counted(monkeypatch)
    run(root)
    assert counted.calls == 2 and not store.exists()
    assert all(found.any() for found in maps(root, OUT_INSTANCES))


def test_main__frames_without_a_street_are_told(root: Path, caplog: Any) -> None:
    depth = root / "out" / "depth_wall"
    for frame in range(FRAMES):
        write_npy(depth / f"f{frame}.npy", np.full((HEIGHT, WIDTH), 5, np.float32))
    run(root, "--depth_subdir", depth.name)
    assert "no street seen in 4 of 4 images" in caplog.text


def test_main__outlines_as_they_were(root: Path) -> None:
    run(root, "--keep_outlines")
    pairs = zip(maps(root, OUT_INSTANCES), maps(root, INSTANCES), strict=True)
    assert all(np.array_equal(found, given) for found, given in pairs)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--depth_subdir", "none"), "run pseudo_labels/generate_depth_spidepth.py first"),
        (("--instance_subdir", "none"), "run pseudo_labels/generate_depth_guided_instances.py first"),
    ],
)
def test_main__what_is_missing_is_named(root: Path, flags: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(root, *flags)


def test_main__classes_with_names_are_refused(root: Path) -> None:
    named = root / "out" / "pseudo_semantic_mapped_k5"
    for frame in range(FRAMES):
        write_png(named / f"f{frame}.png", np.full((HEIGHT, WIDTH), CAR, np.uint8))
    write_provenance(named, script="test", arguments={}, labels=LabelKind("trainId", 19).content())
    with pytest.raises(UserError, match=r"its classes have names \(trainId\)"):
        main([*places(root), "--semantic_subdir", named.name, "--instance_subdir", INSTANCES])
