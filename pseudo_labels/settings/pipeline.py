"""Settings of a whole run of Stage 1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.allowed import CLUSTERS, WORKERS
from cups.backbones.names import CHOICES
from cups.errors import UserError
from pseudo_labels.steps.flags import Settings, flag
from pseudo_labels.steps.folders import DEFAULT_K
from pseudo_labels.steps.frames import ROOT_VARIABLE, SPLITS
from pseudo_labels.steps.options import EXECUTORS, SHARDS
from pseudo_labels.steps.stage1 import Stage1Options

SOURCES = ("spidepth", "disparity", "none")


@dataclass(frozen=True)
class PipelineSettings(Settings):
    """Run."""

    cityscapes_root: str = flag(
        "",
        "folder that holds leftImg8bit/",
        metavar="DIR",
        environment=ROOT_VARIABLE,
        unless=["image_dir"],
    )
    image_dir: Path | None = flag(
        None, "folder of images or video instead (needs `output_root`)", metavar="PATH"
    )
    output_root: str = flag(
        "", "where features, labels and networks go (default: `cityscapes_root`)", metavar="DIR"
    )
    split: str = flag("train", "images that labels are made for", choices=(*SPLITS, "all"))
    backbone: str = flag(
        "dinov2_vitb14", "features of the semantics; texton needs no weights", choices=CHOICES
    )
    num_workers: int = flag(2, "processes of each step", metavar="N", allowed=WORKERS)
    executor: str | None = flag(
        None, "where the steps that go through the images one by one run", choices=EXECUTORS
    )
    num_shards: int | None = flag(
        None, "parts into which these steps split the images", metavar="N", allowed=SHARDS
    )
    k50: bool = flag(False, "k = 50 clusters instead of 300")
    names: Path | None = flag(
        None,
        "labels of the 19 trainIds, as this JSON file names the clusters (`save_names` of an evaluation, "
        "from ground truth), instead of the clusters themselves and a thing/stuff split without labels",
        metavar="FILE",
    )
    refine: bool = flag(False, "train RefineNet on the semantics and go on with the refined ones")
    dinosaur: bool = flag(
        False,
        "instances by DINOSAUR slot attention on DINOv3 features instead of by depth (on textons with "
        "`backbone` texton)",
    )
    object_classes: int | None = flag(
        None,
        "give things N classes by whole objects: their size in the world, their shape, what they show",
        metavar="N",
        allowed=CLUSTERS,
    )
    depth: str = flag(
        "spidepth", "disparity: from the stereo disparity/ of Cityscapes; none: do without", choices=SOURCES
    )
    train: bool = flag(
        False,
        "train the CAUSE heads and the depth network first, without labels, instead of loading published "
        "checkpoints",
    )
    dry_run: bool = flag(False, "print the commands, run nothing")
    check: bool = flag(False, "look whether all is there, and what it will take; run nothing")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_images()
        if self.refine and self.depth == "none":
            raise UserError("`refine`: RefineNet reads depth; leave out `depth` none")
        if self.object_classes is not None and self.depth == "none":
            raise UserError(
                "`object_classes`: the size of an object comes from depth; leave out `depth` none"
            )
        if self.object_classes is not None and self.names is not None:
            raise UserError("`object_classes`: have no names; give either it or `names`")
        if self.names is not None and not self.dry_run and not self.names.is_file():
            raise UserError(f"{self.names}: no such file; save names by `save_names` of an evaluation")

    def _check_images(self) -> None:
        if bool(self.cityscapes_root) == (self.image_dir is not None):
            raise UserError(
                "`cityscapes_root`: missing; give the folder that holds leftImg8bit/, or set "
                f"{ROOT_VARIABLE}; or else give `image_dir`"
            )
        if self.image_dir is not None:
            if not self.output_root:
                raise UserError("`output_root`: missing; it is needed with `image_dir`")
            if self.depth == "disparity":
                raise UserError("`depth` disparity: only Cityscapes has stereo; leave it out")
        elif not self.dry_run and not (Path(self.cityscapes_root) / "leftImg8bit").is_dir():
            raise UserError(f"{self.cityscapes_root}: holds no leftImg8bit/; give the root of Cityscapes")

    @property
    def root(self) -> Path:
        """The folder that is written into."""
        return Path(self.output_root or self.cityscapes_root)

    def options(self) -> Stage1Options:
        """Return the run that is asked for."""
        output = self.root
        train_depth = self.train and self.depth == "spidepth"
        return Stage1Options(
            None if self.image_dir else Path(self.cityscapes_root),
            output,
            image_dir=self.image_dir,
            backbone=self.backbone,
            num_workers=self.num_workers,
            executor=self.executor,
            num_shards=self.num_shards,
            split=self.split,
            k=50 if self.k50 else DEFAULT_K,
            names=self.names,
            train_heads=self.train,
            source=self.depth,
            network=output / "spidepth" if train_depth else None,
            train_depth=train_depth,
            refine=self.refine,
            dinosaur=self.dinosaur,
            objects=self.object_classes,
        )
