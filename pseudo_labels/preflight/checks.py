"""One check for each script of Stage 1: its inputs, its weights, and what it will cost.

The places that are looked at are those that the steps themselves ask; nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from cups.backbones import find_weights
from cups.backbones.names import TEXTON
from cups.errors import UserError
from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX, SPLIT_FILE
from cups.io.weights import how_to_get, stored_at, weight_files
from pseudo_labels.algorithms.cups_format import FlatFolder
from pseudo_labels.generators.depth import OVERRIDES, map_size
from pseudo_labels.inputs.cameras import read_camera, read_intrinsics
from pseudo_labels.inputs.cluster_names import read_names, require_number
from pseudo_labels.inputs.features import feature_folder
from pseudo_labels.inputs.sequences import find_clips, seen_rows
from pseudo_labels.networks.cause_heads import (
    CLUSTER,
    SEGMENT,
    backbone_file,
    backbone_of_heads,
    heads_folder,
    own_heads,
    read_settings,
    tiling_of,
)
from pseudo_labels.networks.depth_network import DEPTH, ENCODER, HOW_TO_GET, stored_settings
from pseudo_labels.preflight.cost import (
    CODE_BYTES,
    HALF,
    LABEL_BYTES_PER_ROW,
    TRAINING,
    Backbone,
    depth_flops,
)
from pseudo_labels.preflight.needs import Job, Need
from pseudo_labels.settings.cause import EPOCHS, CauseSettings, CauseTraining
from pseudo_labels.settings.depth import DepthMapSettings, DepthSettings, TrainDepthSettings
from pseudo_labels.settings.dinosaur import SlotInstanceSettings, TrainDinosaurSettings
from pseudo_labels.settings.features import DinoV3Settings, FeatureSettings, network_rows
from pseudo_labels.settings.labels import CupsSettings, InstanceSettings, ObjectSettings
from pseudo_labels.settings.overclusters import OverclusterSettings
from pseudo_labels.settings.refinement import START_FRAMES, RefinedSettings, TrainRefineSettings
from pseudo_labels.settings.thing_stuff import StatisticRun, ThingStuffSettings
from pseudo_labels.steps.folders import (
    CAUSE_SEMANTICS,
    CODES_FOLDER,
    DEFAULT_SEMANTICS,
    DEPTH_FOLDER,
    REFINED_PREFIX,
    tail,
)
from pseudo_labels.steps.frames import Folder
from pseudo_labels.steps.options import FrameRun, NetworkRun, OutputRoot, TrainingRun

ENDINGS = (SEMANTIC_SUFFIX, INSTANCE_SUFFIX)
Written = tuple[Path, ...]
"""Files and folders that a step will have written."""


@dataclass(frozen=True)
class Check:
    """How a script reads its command line, and the function that looks at what it needs."""

    run: type[OutputRoot]
    settings: type
    look: Callable[[Job], tuple[Need, Written]]


def _need(job: Job, todo: int, steps: str = "") -> Need:
    """Return a need without cost.

    todo: images that are still to be done; steps: what is to be done instead of images.
    """
    chosen = job.settings
    work = (steps or f"{todo} images") if todo else "done"
    return Need(work, getattr(chosen, "device", "auto"), getattr(chosen, "precision", "auto"))


def _labels(job: Job, *outputs: Folder) -> tuple[Need, Written]:
    """Label maps, which need only what earlier steps write."""
    todo = job.todo(*outputs)
    need = _need(job, todo)
    need.size = todo * len(outputs) * LABEL_BYTES_PER_ROW * job.size[0]
    return need, tuple(folder.directory for folder in outputs)


def features(job: Job) -> tuple[Need, Written]:
    """Features of a backbone: its weights, and the largest files of Stage 1."""
    chosen: FeatureSettings = job.settings
    output = feature_folder(job.root, chosen.backbone)
    todo, whole = job.todo(output), _whole_image(job, chosen.backbone, chosen.rows)
    need = _need(job, todo)
    _check_backbone(need, chosen.backbone, chosen.backbone_checkpoint)
    need.size = todo * whole.size
    need.flops = todo * whole.flops * (2 if chosen.flip else 1)
    return need, (output.directory,)


class WholeImage(NamedTuple):
    """Bytes of the features of an image, and floating-point operations to compute them."""

    size: int
    flops: int


def _whole_image(job: Job, name: str, rows: int) -> WholeImage:
    """Return the cost of the features of an image that is brought to so many rows (0: its own)."""
    backbone = Backbone(name)
    height, width = backbone.grid(rows, job.size)
    size = height * width * backbone.channels * HALF
    return WholeImage(size, backbone.flops(height * backbone.patch, width * backbone.patch))


def _check_backbone(need: Need, name: str, checkpoint: Path | None) -> None:
    if name == TEXTON:
        return

    def look() -> None:
        path = find_weights(name, checkpoint)
        if not path.is_file():
            raise UserError(f"{path}: no such file; check `backbone_checkpoint`")

    need.check(look)


def cause_training(job: Job) -> tuple[Need, Written]:
    """Training of CAUSE heads: the backbone's weights; its passes over windows are the cost."""
    chosen: CauseTraining = job.settings
    folder, name = own_heads(chosen, job.root), chosen.extractor
    left = 0 if (folder / SEGMENT).is_file() else sum(chosen.steps(p, len(job.frames)) for p in EPOCHS)
    need = _need(job, left, f"{left} steps")
    _check_backbone(need, name, backbone_file(chosen, folder, name))
    backbone = Backbone(name)
    side = tiling_of(chosen, {}, name, backbone.patch).window
    need.flops = left * chosen.batch_size * backbone.flops(side, side)
    return need, (folder,)


def cause_semantics(job: Job) -> tuple[Need, Written]:
    """Clusters and codes: heads, backbone, windows of each image plain and mirrored."""
    chosen: CauseSettings = job.settings
    own = own_heads(chosen, job.root)
    folder = own if own in job.planned else heads_folder(chosen, job.root)
    stored = read_settings(folder)
    name = backbone_of_heads(chosen, folder, stored)
    codes, labels = Folder(job.root, CODES_FOLDER, ".npy"), Folder(job.root, CAUSE_SEMANTICS, ".png")
    todo = job.todo(codes, labels)
    need = _need(job, todo)
    for file in (folder / SEGMENT, folder / CLUSTER):
        if job.lacks(stored_at(file)):
            need.problems.append(
                f"{file}: no such file, the CAUSE heads; train them (`train`), or get them "
                f"({how_to_get('cause_segment_tr')})"
            )
            break
    _check_backbone(need, name, backbone_file(chosen, folder, name))
    tiling = tiling_of(chosen, stored, name, Backbone(name).patch)
    size, windows = Backbone(name).windows(tiling, job.size)
    tokens = (size[0] // Backbone(name).patch) * (size[1] // Backbone(name).patch)
    need.size = todo * (tokens * CODE_BYTES + LABEL_BYTES_PER_ROW * job.size[0])
    passes = todo * windows * (2 if chosen.flip == "windows" else 1)
    need.flops = passes * Backbone(name).flops(tiling.window, tiling.window)
    return need, (codes.directory, labels.directory)


def overclusters(job: Job) -> tuple[Need, Written]:
    """Overclusters: a file of names or ground truth, where clusters get names; clusters that are given."""
    chosen: OverclusterSettings = job.settings
    need, written = _labels(job, Folder(job.root, chosen.folder, ".png"))
    names, given = chosen.names, chosen.load_centroids
    if names is not None:
        need.check(lambda: require_number(names, read_names(names), chosen.k))
    if given is not None and job.lacks(given):
        need.problems.append(f"{given}: no such file; check `load_centroids`")
    truth = (job.source.cityscapes_root or Path()) / "gtFine" / chosen.fit_split
    if chosen.oracle and not truth.is_dir():
        need.problems.append(f"{truth}: no such folder; `mapping` oracle reads ground truth there")
    return need, written


def depth_training(job: Job) -> tuple[Need, Written]:
    """Training of depth: frames with neighbours, their cameras, weights of the encoder."""
    chosen: TrainDepthSettings = job.settings
    folder = chosen.checkpoint_dir or job.root / "spidepth"
    left = 0 if (folder / ENCODER).is_file() else chosen.steps
    need = _need(job, left, f"{left} steps")

    def cameras() -> None:
        clips = find_clips(job.source, chosen.offsets, chosen.focal)
        for path in sorted({clip.camera for clip in clips if clip.camera is not None}):
            read_intrinsics(path)

    need.check(cameras)
    if chosen.encoder_checkpoint is not None and job.lacks(chosen.encoder_checkpoint):
        need.problems.append(f"{chosen.encoder_checkpoint}: no such file; check `encoder_checkpoint`")
    images = left * chosen.batch_size * chosen.num_gpus
    need.flops = images * TRAINING * depth_flops(chosen.network)
    return need, (folder,)


def depth_maps(job: Job) -> tuple[Need, Written]:
    """Depth: the network's weights, or disparity and camera of each image."""
    chosen: DepthMapSettings = job.settings
    output = Folder(job.root, DEPTH_FOLDER, ".npy")
    todo = job.todo(output)
    need = _need(job, todo)
    size = job.size
    if chosen.source == "disparity":
        need.check(lambda: _check_stereo(job))
    else:
        folder = chosen.checkpoint_dir or weight_files("spidepth_cityscapes")[0].path.parent
        missing = [file for file in (ENCODER, DEPTH) if job.lacks(stored_at(folder / file))]
        if missing:
            need.problems.append(f"{folder / missing[0]}: no such file, the depth network; {HOW_TO_GET}")
        network = _depth_settings(job, folder)
        need.flops = todo * (2 if chosen.post_process else 1) * depth_flops(network)
        computed = (network.height // 2, network.width // 2)
        size = map_size(computed, job.size, seen_rows(job.size[0], network.crop_bottom))
    need.size = todo * size[0] * size[1] * HALF
    return need, (output.directory,)


def _depth_settings(job: Job, folder: Path) -> DepthSettings:
    """Return the settings of the depth network in a folder: planned, trained here, or published."""
    planned = job.planned.get(folder)
    network = planned.network if planned is not None else stored_settings(folder) or DepthSettings()
    given = {name: getattr(job.settings, name) for name in OVERRIDES}
    return replace(network, **{name: value for name, value in given.items() if value is not None})


def _check_stereo(job: Job) -> None:
    root = job.source.cityscapes_root or Path()
    for frame in job.frames:
        disparity = root / "disparity" / frame.relative / f"{frame.stem}_disparity.png"
        if not disparity.is_file():
            raise UserError(f"{disparity}: no such file; unpack the disparity package beside leftImg8bit")
        read_camera(root / "camera" / frame.relative / f"{frame.stem}_camera.json")


def _compute_features(job: Job, need: Need, name: str, checkpoint: Path | None, images: int) -> None:
    """Add the passes through a backbone whose features are not on disk and will not be."""
    if checkpoint is None and not job.lacks(feature_folder(job.root, name).directory):
        return
    _check_backbone(need, name, checkpoint)
    need.flops += images * _whole_image(job, name, network_rows(name)).flops


def refine_training(job: Job) -> tuple[Need, Written]:
    """Training of a refinement network: features, read or computed; the network itself is small."""
    chosen: TrainRefineSettings = job.settings
    folder = chosen.checkpoint_dir or job.root / "refine_net"
    left = 0 if (folder / "refine_net.pth").is_file() else chosen.steps
    need = _need(job, left, f"{left} steps")
    if chosen.features_subdir is None:
        images = left * chosen.batch_size + (min(START_FRAMES, len(job.frames)) if left else 0)
        _compute_features(job, need, chosen.backbone, chosen.backbone_checkpoint, images)
    return need, (folder,)


def refined_labels(job: Job) -> tuple[Need, Written]:
    """Refined semantics: the network, and features, read or computed."""
    chosen: RefinedSettings = job.settings
    trained = job.planned.get(chosen.checkpoint.parent)
    semantics = chosen.semantic_subdir or (trained.semantic_subdir if trained else DEFAULT_SEMANTICS)
    output = Folder(job.root, REFINED_PREFIX + (chosen.name or tail(semantics)), ".png")
    need, written = _labels(job, output)
    if job.lacks(chosen.checkpoint):
        need.problems.append(f"{chosen.checkpoint}: no such file; train it with train_refine_net.py")
    name = chosen.backbone or (trained.backbone if trained else None)
    if name is not None and chosen.features_subdir is None:
        _compute_features(job, need, name, chosen.backbone_checkpoint, job.todo(output))
    return need, written


def slot_training(job: Job) -> tuple[Need, Written]:
    """Training of DINOSAUR: features, read or computed at each step; the slots themselves are small."""
    chosen: TrainDinosaurSettings = job.settings
    folder = chosen.checkpoint_dir or job.root / "dinosaur"
    done = (folder / "dinosaur.pth").is_file()
    left = 0 if done else chosen.steps_over(len(job.frames))
    need = _need(job, left, f"{left} steps")
    _compute_features(job, need, chosen.backbone, chosen.backbone_checkpoint, left * chosen.batch_size)
    return need, (folder,)


def slot_labels(job: Job) -> tuple[Need, Written]:
    """Instances by slots: the network, and features, read or computed."""
    chosen: SlotInstanceSettings = job.settings
    output = Folder(job.root, chosen.folder, ".png")
    need, written = _labels(job, output)
    checkpoint = chosen.checkpoint or job.root / "dinosaur" / "dinosaur.pth"
    trained = job.planned.get(checkpoint.parent)
    if job.lacks(checkpoint):
        need.problems.append(f"{checkpoint}: no such file; train it with train_dinosaur.py")
    name = chosen.backbone or (trained.backbone if trained else None)
    if name is not None:
        _compute_features(job, need, name, chosen.backbone_checkpoint, job.todo(output))
    return need, written


def classification(job: Job) -> tuple[Need, Written]:
    """Things and stuff: one small file."""
    folder = Folder(job.root, job.settings.semantic_subdir, ".png")
    return Need("1 file"), (job.settings.output_json or folder.directory / SPLIT_FILE,)


def depth_instances(job: Job) -> tuple[Need, Written]:
    """Instances by depth: label maps."""
    return _labels(job, Folder(job.root, job.settings.folder, ".png"))


def object_classes(job: Job) -> tuple[Need, Written]:
    """Classes of objects: two maps for each image."""
    chosen: ObjectSettings = job.settings
    return _labels(job, *(Folder(job.root, name, ".png") for name in (chosen.folder, chosen.instance_output)))


def cups_format(job: Job) -> tuple[Need, Written]:
    """Labels to train on: two maps for each image."""
    chosen: CupsSettings = job.settings
    target = chosen.labels(job.root, chosen.semantics(job.root))
    return _labels(job, *(FlatFolder(target.parent, target.name, end) for end in ENDINGS))


CHECKS: Mapping[str, Check] = {
    "extract_dinov2_features": Check(NetworkRun, FeatureSettings, features),
    "extract_dinov3_features": Check(NetworkRun, DinoV3Settings, features),
    "train_cause": Check(TrainingRun, CauseTraining, cause_training),
    "generate_semantic_pseudolabels_cause": Check(NetworkRun, CauseSettings, cause_semantics),
    "generate_overclustered_semantics": Check(FrameRun, OverclusterSettings, overclusters),
    "train_spidepth": Check(TrainingRun, TrainDepthSettings, depth_training),
    "generate_depth_spidepth": Check(NetworkRun, DepthMapSettings, depth_maps),
    "train_refine_net": Check(TrainingRun, TrainRefineSettings, refine_training),
    "generate_refined_semantics": Check(NetworkRun, RefinedSettings, refined_labels),
    "train_dinosaur": Check(TrainingRun, TrainDinosaurSettings, slot_training),
    "generate_dinosaur_instances": Check(NetworkRun, SlotInstanceSettings, slot_labels),
    "classify_stuff_things": Check(StatisticRun, ThingStuffSettings, classification),
    "generate_depth_guided_instances": Check(FrameRun, InstanceSettings, depth_instances),
    "generate_object_classes": Check(FrameRun, ObjectSettings, object_classes),
    "convert_to_cups_format": Check(FrameRun, CupsSettings, cups_format),
}
"""Script -> its check."""
