"""Folders used together come from the same ancestors, or are refused; those that do not tell are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cups.errors import UserError
from cups.io.files import write_json
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance, write_provenance
from pseudo_labels import (
    convert_to_cups_format,
    generate_depth_guided_instances,
    generate_panoptic_pseudolabels,
    train_joint_refine_net,
)
from pseudo_labels.evaluation import evaluate_k50_pseudolabels, evaluate_pseudolabels
from pseudo_labels.inputs.labels import find_things
from pseudo_labels.steps.ancestry import (
    MADE_OF,
    made_of,
    refuse_other_features,
    refuse_other_semantics,
    refuse_stale_split,
)
from pseudo_labels.steps.frames import Folder, FrameSource
from pseudo_labels.steps.resume import IMAGES

LABELS = {"kind": "clusters", "num_classes": 300, "void": 65535}


def step(folder: Path, seed: int = 0, **about: Any) -> Path:
    write_provenance(folder, script="test", arguments={"seed": seed}, **about)
    return folder


def semantics(root: Path, k: int, seed: int = 0) -> Path:
    folder = root / f"pseudo_semantic_raw_k{k}"
    arguments = {"k": k, "seed": seed}
    write_provenance(folder, script="clusters", arguments=arguments, labels=LABELS)
    return folder


def test_other_semantics__instances_of_other_clusters_are_refused(tmp_path: Path) -> None:
    many, few = semantics(tmp_path, 300), semantics(tmp_path, 50)
    depth = step(tmp_path / "depth_spidepth")
    instances = step(tmp_path / "pseudo_instance_depth_guided", inputs=[tmp_path / "images", many, depth])
    refuse_other_semantics(many, instances)
    with pytest.raises(UserError, match="made from pseudo_semantic_raw_k300, not pseudo_semantic_raw_k50"):
        refuse_other_semantics(few, instances)
    semantics(tmp_path, 300, seed=1)
    with pytest.raises(UserError, match="made from an earlier pseudo_semantic_raw_k300"):
        refuse_other_semantics(many, instances)


def test_other_semantics__the_nearest_labels_count(tmp_path: Path) -> None:
    """Instances of refined semantics belong to these, not to what was refined."""
    raw = semantics(tmp_path, 50)
    refined = step(tmp_path / "pseudo_semantic_refined_raw_k50", inputs=[raw], labels=LABELS)
    masks = step(tmp_path / "masks", inputs=[refined])
    instances = step(tmp_path / "pseudo_instance_a", inputs=[masks])
    refuse_other_semantics(refined, instances)
    with pytest.raises(UserError, match="made from pseudo_semantic_refined_raw_k50"):
        refuse_other_semantics(raw, instances)


def test_other_semantics__what_does_not_tell_is_taken(tmp_path: Path) -> None:
    few = semantics(tmp_path, 50)
    (tmp_path / "own_masks").mkdir()
    refuse_other_semantics(few, tmp_path / "own_masks")
    features = step(tmp_path / "features_texton")
    refuse_other_semantics(few, step(tmp_path / "pseudo_instance_slots", inputs=[features]))
    (few / "provenance.json").unlink()
    refuse_other_semantics(few, step(tmp_path / "pseudo_instance_b", inputs=[semantics(tmp_path, 300)]))


def test_other_semantics__folders_of_version_0_2_0_are_compared_by_their_arguments(tmp_path: Path) -> None:
    def forget(folder: Path) -> Path:
        content = read_provenance(folder)
        assert content is not None
        write_json(folder / "provenance.json", {k: v for k, v in content.items() if k != "fingerprint"})
        return folder

    many, few = forget(semantics(tmp_path, 300)), forget(semantics(tmp_path, 50))
    instances = forget(step(tmp_path / "pseudo_instance_a", inputs=[many]))
    refuse_other_semantics(many, instances)
    with pytest.raises(UserError, match="made from pseudo_semantic_raw_k300"):
        refuse_other_semantics(few, instances)


@pytest.fixture
def mixed(perfect_root: Any) -> list[str]:
    """The street's clusters and instances of other semantics; flags of a command that would pair them."""
    root = perfect_root.path
    for name in ("pseudo_semantic_raw_k6", "pseudo_semantic_mapped_k300"):
        write_provenance(
            root / name, script="test", arguments={"of": name}, labels=LABELS | {"num_classes": 6}
        )
    step(root / "pseudo_instance_mine", inputs=[root / "pseudo_semantic_mapped_k300"])
    instances = root / "pseudo_instance_depth_guided_mapped_k300"
    for path in instances.rglob("*.png"):
        write_png(root / "pseudo_instance_mine" / path.relative_to(instances), read_ids(path))
    pair = ["--semantic_subdir", "pseudo_semantic_raw_k6", "--instance_subdir", "pseudo_instance_mine"]
    return ["--cityscapes_root", str(root), *pair]


PAIRING = {
    convert_to_cups_format: ("--thing_classes", "1"),
    generate_panoptic_pseudolabels: ("--thing_classes", "1"),
    evaluate_pseudolabels: ("--split", "train", "--thing_classes", "1"),
    evaluate_k50_pseudolabels: ("--split", "train", "--thing_classes", "1", "--k", "6"),
    train_joint_refine_net: (),
}


@pytest.mark.parametrize("script", PAIRING, ids=lambda script: script.__name__.rpartition(".")[2])
def test_other_semantics__every_step_that_pairs_refuses(mixed: list[str], script: Any) -> None:
    with pytest.raises(UserError, match="made from pseudo_semantic_mapped_k300, not pseudo_semantic_raw_k6"):
        script.main([*mixed, *PAIRING[script]])


def test_other_features__of_another_backbone_or_size_are_refused(tmp_path: Path) -> None:
    features = step(tmp_path / "features_dinov2_vitb14", seed=0)
    net = step(tmp_path / "refine_net", inputs=[features]) / "refine_net.pth"
    refuse_other_features(net, features, features.name)
    moved = step(tmp_path / "elsewhere" / features.name, seed=0)
    refuse_other_features(net, moved, features.name)
    step(features, seed=1)
    with pytest.raises(
        UserError, match=r"features_dinov2_vitb14: not the features that .*refine_net\.pth was"
    ):
        refuse_other_features(net, features, features.name)
    refuse_other_features(tmp_path / "copied.pth", features, features.name)


def split_of(tiny_root: Any, max_images: int | None = None) -> Folder:
    folder = Folder(tiny_root.path, "pseudo_semantic_mapped_k300", ".png")
    frames = FrameSource(cityscapes_root=tiny_root.path, max_images=max_images).frames()
    path = folder.directory / "thing_stuff_split.json"
    write_json(path, {"things": [13], "stuffs": [0], MADE_OF: made_of(folder, frames)})
    return folder


def test_stale_split__of_semantics_made_anew_is_refused(tiny_root: Any) -> None:
    folder = split_of(tiny_root)
    assert find_things(folder) == (13,)
    assert find_things(folder, [2]) == (2,)
    step(folder.directory, seed=1)
    message = (
        "made of an earlier pseudo_semantic_mapped_k300, which was made anew since; run "
        "pseudo_labels/classify_stuff_things.py `semantic_subdir` pseudo_semantic_mapped_k300 again"
    )
    with pytest.raises(UserError, match=message):
        find_things(folder)
    flags = ["--cityscapes_root", str(tiny_root.path), "--semantic_subdir", folder.name, "--no_depth"]
    with pytest.raises(UserError, match="made of an earlier"):
        generate_depth_guided_instances.main(flags)


def test_stale_split__of_a_trial_of_few_images_is_refused(tiny_root: Any) -> None:
    """One image tells little of which classes are things; the whole folder took its word."""
    folder = split_of(tiny_root, max_images=1)
    names = [f"train/aachen/{stem}" for stem in tiny_root.stems]
    write_json(folder.directory / IMAGES, dict.fromkeys(names, 1))
    with pytest.raises(UserError, match="made of 1 image, the folder holds 2; run"):
        find_things(folder)
    write_json(folder.directory / IMAGES, dict.fromkeys([names[0], "val/aachen/x"], 1))  # another split
    assert find_things(folder) == (13,)


def test_stale_split__a_file_of_ones_own_is_taken(tiny_root: Any, tmp_path: Path) -> None:
    folder = split_of(tiny_root, max_images=1)
    own = tmp_path / "own.json"
    write_json(own, {"things": [2], "stuffs": [0]})
    assert find_things(folder, split_json=own) == (2,)
    write_json(
        own, {"things": [2], "stuffs": [0], MADE_OF: {"semantic_subdir": "another", "fingerprint": "x"}}
    )
    refuse_stale_split(own, folder)
    write_json(
        own, {"things": [2], "stuffs": [0], MADE_OF: {"semantic_subdir": folder.name, "fingerprint": "x"}}
    )
    with pytest.raises(UserError, match="made of an earlier"):
        refuse_stale_split(own, folder)
