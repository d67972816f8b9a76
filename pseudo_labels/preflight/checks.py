"""One check for each script of Stage 1: its inputs, its weights, and what it will cost.

The places that are looked at are those that the steps themselves ask; nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cups.backbones.names import TEXTON
from cups.io.weights import how_to_get, weight_files
from pseudo_labels.inputs.cameras import read_camera, read_intrinsics
from pseudo_labels.inputs.features import feature_folder
from pseudo_labels.inputs.sequences import find_clips
from pseudo_labels.networks.cause_codes import Tiling, default_tiling, window_starts
from pseudo_labels.networks.cause_heads import CLUSTER, SEGMENT, heads_folder
from pseudo_labels.networks.depth_network import DEPTH, ENCODER, settings_on_disk
from pseudo_labels.preflight.cost import (
    HALF,
    LABEL_BYTES_PER_ROW,
    TRAINING,
    backbone_flops,
    backbone_shape,
    depth_flops,
)
from pseudo_labels.preflight.needs import Job, Need, first_error
from pseudo_labels.settings.cause import CauseSettings, CauseTraining, HeadsChoice
from pseudo_labels.settings.depth import DepthMapSettings, TrainDepthSettings
from pseudo_labels.settings.dinosaur import SlotInstanceSettings, TrainDinosaurSettings
from pseudo_labels.settings.features import DinoV3Settings, FeatureSettings
from pseudo_labels.settings.labels import CupsSettings, InstanceSettings
from pseudo_labels.settings.overclusters import OverclusterSettings
from pseudo_labels.settings.refinement import RefinedSettings, TrainRefineSettings
from pseudo_labels.settings.thing_stuff import StatisticRun, ThingStuffSettings
from pseudo_labels.steps.folders import CAUSE_SEMANTICS, CODES_FOLDER, DEPTH_FOLDER
from pseudo_labels.steps.frames import Folder, FrameSource
from pseudo_labels.steps.options import FrameRun, NetworkRun, OutputRoot, RunOptions

Made = tuple[Path, ...]
"""Files and folders that a step will have written."""


@dataclass(frozen=True)
class Check:
    """How a script reads its command line, and the function that looks at what it needs."""

    run: type[OutputRoot]
    settings: type
    look: Callable[[Job], tuple[Need, Made]]


def _images(count: int) -> str:
    return f"{count} images" if count else "done"


def _backbone(need: Need, job: Job, name: str, given: Path | None, beside: Path | None = None) -> None:
    """Note missing weights of a backbone, which may lie beside CAUSE heads too."""
    if name == TEXTON:
        return
    usual = weight_files(name)[0].path
    places = [given] if given else [usual, *([beside / usual.name] if beside else [])]
    if all(job.missing(place) for place in places):
        need.problems.append(
            f"{places[0]}: no such file, the weights of `backbone` {name}; get it ({how_to_get(name)}) "
            "or give `backbone_checkpoint`"
        )


def _grid(job: Job, rows: int, patch: int) -> tuple[int, int]:
    """Return the tokens (h, w) of an image that is brought to so many rows (0: its own)."""
    height, width = job.size
    scale = (rows or height) / height
    return max(1, round(height * scale / patch)), max(1, round(width * scale / patch))


def features(job: Job) -> tuple[Need, Made]:
    """Features of a backbone: its weights, and the largest files of Stage 1."""
    chosen: FeatureSettings = job.settings
    output = feature_folder(job.root, chosen.backbone)
    todo, shape = job.todo(output), backbone_shape(chosen.backbone)
    rows, columns = _grid(job, chosen.rows, shape.patch)
    need = Need(_images(todo), device=chosen.device, precision=chosen.precision)
    _backbone(need, job, chosen.backbone, chosen.backbone_checkpoint)
    need.bytes = todo * rows * columns * shape.channels * HALF
    flops = backbone_flops(chosen.backbone, rows * shape.patch, columns * shape.patch)
    need.flops = todo * flops * (2 if chosen.flip else 1)
    return need, (output.directory,)


def _tiling(chosen: HeadsChoice, name: str) -> Tiling:
    usual = default_tiling(name, backbone_shape(name).patch)
    height = usual.height if chosen.height is None else chosen.height
    return Tiling(height, chosen.window or usual.window, chosen.stride or usual.stride)


def cause_training(job: Job) -> tuple[Need, Made]:
    """Training of CAUSE heads: the backbone's weights; its passes over windows are the cost."""
    chosen: CauseTraining = job.settings
    folder = heads_folder(chosen, job.root)
    windows = sum(steps_of(chosen, phase, len(job.frames)) for phase in PHASES) * chosen.batch_size
    done = (folder / SEGMENT).is_file()
    need = Need("done" if done else f"{windows} windows", device=chosen.device, precision=chosen.precision)
    _backbone(need, job, chosen.extractor, chosen.backbone_checkpoint, folder)
    side = _tiling(chosen, chosen.extractor).window
    need.flops = 0 if done else windows * backbone_flops(chosen.extractor, side, side)
    return need, (folder,)


def cause_semantics(job: Job) -> tuple[Need, Made]:
    """Clusters and codes: heads, backbone, windows of each image plain and mirrored."""
    chosen: CauseSettings = job.settings
    folder, name = heads_folder(chosen, job.root), chosen.backbone or DEFAULT_DINOV2
    codes, labels = Folder(job.root, CODES_FOLDER, ".npy"), Folder(job.root, CAUSE_SEMANTICS, ".png")
    todo, tiling, patch = job.todo(codes, labels), _tiling(chosen, name), backbone_shape(name).patch
    need = Need(_images(todo), device=chosen.device, precision=chosen.precision)
    if lost := job.missing(folder / SEGMENT, folder / CLUSTER):
        need.problems.append(
            f"{lost}: no such file, the CAUSE heads; train them (`train`), or get it "
            f"({how_to_get('cause_segment_tr')})"
        )
    _backbone(need, job, name, chosen.backbone_checkpoint, folder)
    rows, columns = _grid(job, tiling.height, patch)
    need.bytes = todo * (rows * columns * CODE_CHANNELS * HALF + LABEL_BYTES_PER_ROW * job.size[0])
    windows = 1
    for tokens in (rows, columns):
        windows *= len(window_starts(max(tokens * patch, tiling.window), tiling.window, tiling.stride))
    need.flops = 2 * todo * windows * backbone_flops(name, tiling.window, tiling.window)
    return need, (folder, codes.directory, labels.directory)


def overclusters(job: Job) -> tuple[Need, Made]:
    """Overclusters: ground truth, where it names them."""
    chosen: OverclusterSettings = job.settings
    output = Folder(job.root, chosen.folder, ".png")
    need = _labels(job, output)
    if chosen.oracle:
        truth = (job.source.cityscapes_root or Path()) / "gtFine" / chosen.fit_split
        if not truth.is_dir():
            need.problems.append(f"{truth}: no such folder; `mapping` oracle reads ground truth there")
    return need, (output.directory,)


def depth_training(job: Job) -> tuple[Need, Made]:
    """Training of depth: frames with neighbours, their cameras, weights of the encoder."""
    chosen: TrainDepthSettings = job.settings
    folder = chosen.checkpoint_dir or job.root / "spidepth"
    done = (folder / ENCODER).is_file()
    need = Need("done" if done else f"{chosen.steps} steps", device=chosen.device, precision=chosen.precision)

    def cameras() -> None:
        clips = find_clips(job.source, chosen.offsets, chosen.focal)
        for path in sorted({clip.camera for clip in clips if clip.camera is not None}):
            read_intrinsics(path)

    first_error(need.problems, cameras)
    if chosen.encoder_checkpoint and (lost := job.missing(chosen.encoder_checkpoint)):
        need.problems.append(f"{lost}: no such file; check `encoder_checkpoint`")
    images = 0 if done else chosen.steps * chosen.batch_size * chosen.num_gpus
    need.flops = images * TRAINING * depth_flops(chosen.network)
    return need, (folder,)


def depth_maps(job: Job) -> tuple[Need, Made]:
    """Depth: the network's weights, or disparity and camera of each image."""
    chosen: DepthMapSettings = job.settings
    output = Folder(job.root, DEPTH_FOLDER, ".npy")
    todo = job.todo(output)
    need = Need(_images(todo), device=chosen.device, precision=chosen.precision)
    rows, columns = job.size
    if chosen.source == "disparity":
        first_error(need.problems, lambda: _stereo(job))
    else:
        folder = chosen.checkpoint_dir or weight_files("spidepth_cityscapes")[0].path.parent
        if lost := job.missing(folder / ENCODER, folder / DEPTH):
            need.problems.append(f"{lost}: no such file, the depth network; {HOW_TO_GET}")
        settings = settings_on_disk(folder)
        need.flops = todo * (2 if chosen.post_process else 1) * depth_flops(settings)
        rows, columns = stored_size(settings, job.size)
    need.bytes = todo * rows * columns * HALF
    return need, (output.directory,)


def _stereo(job: Job) -> None:
    root = job.source.cityscapes_root or Path()
    for frame in job.frames:
        disparity = root / "disparity" / frame.relative / f"{frame.stem}_disparity.png"
        if not disparity.is_file():
            raise UserError(f"{disparity}: no such file; unpack the disparity package beside leftImg8bit")
        read_camera(root / "camera" / frame.relative / f"{frame.stem}_camera.json")


def _labels(job: Job, *outputs: Folder) -> Need:
    """Label maps, which need only what earlier steps write."""
    todo = job.todo(*outputs)
    return Need(_images(todo), bytes=todo * len(outputs) * LABEL_BYTES_PER_ROW * job.size[0])
