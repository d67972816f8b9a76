"""Stage 1 as commands: which script runs with which flags, in which order.

`Stage1Steps` holds what the commands of a run share and makes each of them; `Stage1Options` says which of
them a run needs. Nothing is run here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cups.backbones.names import is_own
from pseudo_labels.steps.folders import (
    COMPONENTS_METHOD,
    DEFAULT_K,
    REFINED_PREFIX,
    SLOT_METHOD,
    cups_folder,
    instance_folder,
    mapped_semantics,
    object_instances,
    object_semantics,
    raw_semantics,
    tail,
)

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""
FOLDER = "pseudo_labels"
"""Of the scripts."""
SPLITTABLE = ("extract_", "generate_")
"""Scripts that work image by image. A network trains on all images, and statistics count all of them."""
WHOLE = ("train_", "classify_", "convert_")
"""Scripts that need all images at once, and run as one job of a cluster."""


@dataclass(frozen=True)
class Command:
    """One command: its name in reports, the script (a path in the repository, or a module), its arguments."""

    name: str
    script: str
    arguments: tuple[str, ...]

    def line(self, python: str = sys.executable) -> list[str]:
        """Return the command line."""
        start = [str(ROOT / self.script)] if self.script.endswith(".py") else ["-m", self.script]
        return [python, *start, *self.arguments]


@dataclass(frozen=True)
class Stage1Steps:
    """What the commands of a run of Stage 1 share; each method returns one command.

    Methods take the flags that only some runs need behind the rest.

    Attributes:
        cityscapes_root: folder that holds leftImg8bit/ (None: `image_dir` and `output_root` are given).
        output_root: where folders are written (None: `cityscapes_root`).
        backbone: features of the semantics.
        heads: folder of the CAUSE heads (None: that of the scripts).
        seed: of everything random (None: that of the scripts).
        num_workers: processes or threads of each command.
        executor: "local" for commands that work image by image, or "slurm" for all but scores.
        num_shards: parts into which these commands split the images.
        further: script without its suffix -> flags at the end of its command. Later flags win.
        title: stands before the name of each command.
        image_dir: a plain folder of images or a video, which has no splits.
    """

    cityscapes_root: Path | None
    output_root: Path | None = None
    backbone: str = "dinov2_vitb14"
    heads: Path | None = None
    seed: int | None = None
    num_workers: int = 2
    executor: str | None = None
    num_shards: int | None = None
    further: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    title: str = ""
    image_dir: Path | None = None

    @property
    def root(self) -> Path:
        """The folder that is written into."""
        root = self.output_root or self.cityscapes_root
        assert root is not None, "a plain folder has no place for outputs"
        return root

    def command(self, name: str, script: str, split: str, *arguments: str) -> Command:
        """Return the command of any script of `pseudo_labels/` on a split."""
        words = (
            *_given("cityscapes_root", self.cityscapes_root),
            *_given("image_dir", self.image_dir),
            *_given("output_root", self.output_root),
            *_given("num_workers", self.num_workers),
            *(_given("split", split) if self.image_dir is None else ()),
            *arguments,
        )
        if script.startswith(SPLITTABLE):
            words += (*_given("executor", self.executor), *_given("num_shards", self.num_shards))
        elif script.startswith(WHOLE) and self.executor == "slurm":
            words += ("--executor", "slurm")
        words += self.further.get(script, ())
        return Command(self.title + name, f"{FOLDER}/{script}.py", words)

    @property
    def seeded(self) -> tuple[str, ...]:
        """The flag of the seed."""
        return _given("seed", self.seed)

    @property
    def head_flags(self) -> tuple[str, ...]:
        """The flags of backbone and CAUSE heads."""
        return (*_given("backbone", self.backbone), *_given("checkpoint_dir", self.heads))

    def features(self, split: str) -> Command:
        """Write the features of the backbone."""
        return self.command("features", "extract_dinov2_features", split, "--backbone", self.backbone)

    def slot_features(self, split: str, backbone: str) -> Command:
        """Write the features that slots explain."""
        return self.command("slot features", "extract_dinov3_features", split, "--backbone", backbone)

    def cause_heads(self, *flags: str) -> Command:
        """Train codebook, decoder and probe without labels."""
        return self.command("CAUSE heads", "train_cause", "train", *self.head_flags, *self.seeded, *flags)

    def cause_semantics(self, split: str) -> Command:
        """Write the 27 clusters of CAUSE and its codes."""
        script = "generate_semantic_pseudolabels_cause"
        return self.command("CAUSE semantics", script, split, *self.head_flags)

    def overclusters(self, split: str, k: int, *flags: str, name: str = "overclusters") -> Command:
        """Cluster the codes into `k` clusters and write them."""
        flags = (*self.head_flags, *self.seeded, "--k", str(k), *flags)
        return self.command(name, "generate_overclustered_semantics", split, *flags)

    def depth_network(self, folder: Path, *flags: str) -> Command:
        """Train the depth network into a folder."""
        where = ("--checkpoint_dir", str(folder), *self.seeded)
        return self.command("depth network", "train_spidepth", "train", *where, *flags)

    def depth(self, split: str, *flags: str, name: str = "depth") -> Command:
        """Write depth."""
        return self.command(name, "generate_depth_spidepth", split, *flags)

    def thing_split(self, semantics: str, *flags: str, name: str = "things and stuff") -> Command:
        """Decide without labels which pseudo-classes are things."""
        return self.command(name, "classify_stuff_things", "train", "--semantic_subdir", semantics, *flags)

    def refine_net(
        self,
        semantics: str,
        *flags: str,
        folder: Path | None = None,
        name: str = "RefineNet",
    ) -> Command:
        """Train RefineNet on semantics into a folder (None: that of the script)."""
        inputs = ("--semantic_subdir", semantics, *_given("backbone", self.backbone), *self.seeded)
        flags = (*_given("checkpoint_dir", folder), *inputs, *flags)
        return self.command(name, "train_refine_net", "train", *flags)

    def refined(self, split: str, checkpoint: Path, name: str = "refined semantics") -> Command:
        """Refine the semantics that RefineNet was trained on."""
        # A network's file opens no other: it names the backbone, but not where one of your own lies.
        own = ("--backbone", self.backbone) if is_own(self.backbone) else ()
        return self.command(name, "generate_refined_semantics", split, "--checkpoint", str(checkpoint), *own)

    def slots(self, backbone: str, *flags: str) -> Command:
        """Train DINOSAUR."""
        flags = ("--backbone", backbone, *self.seeded, *flags)
        return self.command("DINOSAUR", "train_dinosaur", "train", *flags)

    def slot_instances(self, split: str, semantics: str, *flags: str, name: str = "instances") -> Command:
        """Split the things of semantics by slots."""
        where = ("--semantic_subdir", semantics, *flags, *self.seeded)
        return self.command(name, "generate_dinosaur_instances", split, *where)

    def instances(self, split: str, semantics: str, *flags: str, name: str = "instances") -> Command:
        """Split the things of semantics by depth."""
        where = ("--semantic_subdir", semantics)
        return self.command(name, "generate_depth_guided_instances", split, *where, *flags)

    def object_classes(
        self, split: str, semantics: str, *flags: str, name: str = "object classes"
    ) -> Command:
        """Give things classes of whole objects."""
        where = ("--semantic_subdir", semantics, *self.seeded)
        return self.command(name, "generate_object_classes", split, *where, *flags)

    def cups_format(
        self,
        split: str,
        semantics: str,
        folder: Path,
        classes: int | None,
        instances: str | None = None,
        further: tuple[str, ...] = (),
    ) -> Command:
        """Write the labels that Stage 2 trains on into a flat folder.

        classes: number of pseudo-classes (None: as the semantic folder says).
        """
        flags = ("--semantic_subdir", semantics, *_given("instance_subdir", instances))
        flags += _given("num_semantic_classes", classes)
        where = ("--output_dir", str(folder))
        return self.command("CUPS format", "convert_to_cups_format", split, *flags, *further, *where)

    def panoptic_scores(
        self,
        name: str,
        semantics: str,
        classes: int | None,
        results: Path,
        *flags: str,
        instances: str | None = None,
    ) -> Command:
        """Score semantics with instances on the validation split into the result file `results`.

        classes: number of pseudo-classes (None: as the semantic folder says).
        """
        where = ("--semantic_subdir", semantics, *_given("instance_subdir", instances))
        files = (*_given("num_semantic_classes", classes), "--results", str(results))
        return self.command(name, "evaluation/evaluate_pseudolabels", "val", *where, *files, *flags)


def is_step(script: str) -> bool:
    """Return whether a script of this name exists."""
    return (ROOT / FOLDER / f"{script}.py").is_file()


def _given(name: str, value: object) -> tuple[str, ...]:
    """Return a flag and its value, nothing for None."""
    return () if value is None else (f"--{name}", str(value))


def refined_folder(semantics: str) -> str:
    """Return the folder of refined semantics."""
    return REFINED_PREFIX + tail(semantics)


@dataclass(frozen=True)
class Stage1Options(Stage1Steps):
    """A whole run, from images to labels in the CUPS format.

    Attributes:
        split: images that maps are written for; networks train on "train".
        label_split: images that labels are written for (None: `split`).
        k: clusters.
        names: file that names the clusters by the 19 trainIds; None: they are the pseudo-classes, told into
            things and stuff without labels.
        with_features: write the backbone's features first. Only RefineNet reads them, and it computes those
            that are not there.
        train_heads: train the CAUSE heads first.
        source: of depth, "spidepth", "disparity", or "none": things are told by shape, instances are
            components.
        network: folder of the depth network (None: the published one).
        train_depth: train this network first.
        refine: train RefineNet on the semantics and go on with the refined ones.
        dinosaur: split things by slots instead of by depth.
        objects: number of classes that things get as whole objects (None: things keep their clusters).
        labels: flat folder of the labels (None: that of the semantics under the output root).
    """

    split: str = "train"
    label_split: str | None = None
    k: int = DEFAULT_K
    names: Path | None = None
    with_features: bool = False
    train_heads: bool = False
    source: str = "spidepth"
    network: Path | None = None
    train_depth: bool = False
    refine: bool = False
    dinosaur: bool = False
    objects: int | None = None
    labels: Path | None = None

    @property
    def with_depth(self) -> bool:
        """Whether depth tells things from stuff and splits them."""
        return self.source != "none"

    @property
    def clusters(self) -> str:
        """The folder of the clusters, or of their names."""
        return raw_semantics(self.k) if self.names is None else mapped_semantics(self.k)

    @property
    def semantics(self) -> str:
        """The folder of semantics that instances are split in."""
        return refined_folder(self.clusters) if self.refine else self.clusters

    @property
    def label_semantics(self) -> str:
        """The folder of semantics that labels are made of."""
        return self.semantics if self.objects is None else object_semantics(self.semantics)

    @property
    def split_instances(self) -> str | None:
        """The folder of instances that the semantics are split into (None: their default)."""
        method = SLOT_METHOD if self.dinosaur else None if self.with_depth else COMPONENTS_METHOD
        return method and instance_folder(method, self.semantics)

    @property
    def label_instances(self) -> str | None:
        """The folder of instances that labels are made of (None: the default of their semantics)."""
        found = self.split_instances
        return found if self.objects is None or not found else object_instances(found, self.semantics)

    @property
    def num_classes(self) -> int | None:
        """Number of pseudo-classes (None: as the semantic folder says)."""
        return self.k if self.names is None and self.objects is None else None

    def commands(self) -> list[Command]:
        """Return the commands of the run, in order."""
        labels = self.cups_format(
            self.label_split or self.split,
            self.label_semantics,
            self.labels or self.root / cups_folder(self.label_semantics),
            self.num_classes,
            self.label_instances,
            () if self.names is None else ("--trainid_input",),
        )
        return [
            *self.semantic_commands(),
            *self.depth_commands(),
            *self.refinement_commands(),
            *self.instance_commands(),
            *self.object_commands(),
            labels,
        ]

    @property
    def depth_flag(self) -> tuple[str, ...]:
        """The flag of steps that do without depth."""
        return () if self.with_depth else ("--no_depth",)

    def semantic_commands(self) -> list[Command]:
        """Return the commands from images to overclusters."""
        return [
            *([self.features(self.split)] if self.with_features else ()),
            *([self.cause_heads()] if self.train_heads else ()),
            self.cause_semantics(self.split),
            self.overclusters(self.split, self.k, *_given("names", self.names)),
        ]

    def depth_commands(self) -> list[Command]:
        """Return the commands from images to depth."""
        if not self.with_depth:
            return []
        if self.source != "spidepth":
            return [self.depth(self.split, "--source", self.source)]
        training = [self.depth_network(self.network)] if self.train_depth and self.network else []
        return [*training, self.depth(self.split, *_given("checkpoint_dir", self.network))]

    def refinement_commands(self) -> list[Command]:
        """Return the commands that decide on things, and that refine the semantics."""
        commands = []
        if self.names is None:
            commands.append(self.thing_split(self.clusters, *self.depth_flag))
        if self.refine:
            folder = self.root / f"refine_net_{tail(self.clusters)}"
            commands.append(self.refine_net(self.clusters, folder=folder))
            commands.append(self.refined(self.split, folder / "refine_net.pth"))
        return commands

    def instance_commands(self) -> list[Command]:
        """Return the commands that split things into instances."""
        if not self.dinosaur:
            return [self.instances(self.split, self.semantics, *self.depth_flag)]
        backbone = "texton" if self.backbone == "texton" else "dinov3_vitb16"
        return [
            # Slots see each image 200 times: computed each time, its features would cost hours.
            *([] if backbone == "texton" else [self.slot_features(self.split, backbone)]),
            self.slots(backbone),
            self.slot_instances(self.split, self.semantics),
        ]

    def object_commands(self) -> list[Command]:
        """Return the command that gives things classes of objects."""
        if self.objects is None:
            return []
        instances = _given("instance_subdir", self.split_instances)
        words = ("--object_classes", str(self.objects), *instances)
        return [self.object_classes(self.split, self.semantics, *words)]
