"""Settings of a whole run of Stage 1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.errors import UserError
from pseudo_labels.steps.flags import Settings, flag
from pseudo_labels.steps.folders import DEFAULT_K
from pseudo_labels.steps.frames import ROOT_VARIABLE, SPLITS
from pseudo_labels.steps.options import EXECUTORS
from pseudo_labels.steps.stage1 import Stage1Options

SOURCES = ("spidepth", "disparity")


@dataclass(frozen=True)
class PipelineSettings(Settings):
    """Run."""

    cityscapes_root: str = flag(
        "", "folder that holds leftImg8bit/", metavar="DIR", environment=ROOT_VARIABLE
    )
    output_root: str = flag(
        "", "where features, labels and networks go (default: `cityscapes_root`)", metavar="DIR"
    )
    split: str = flag("train", "images that labels are made for", choices=(*SPLITS, "all"))
    backbone: str = flag("dinov2_vitb14", "features of the semantics; texton needs no weights")
    num_workers: int = flag(2, "processes of each step", metavar="N")
    executor: str | None = flag(
        None, "where the steps that go through the images one by one run", choices=EXECUTORS
    )
    num_shards: int | None = flag(None, "parts into which these steps split the images", metavar="N")
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
    depth: str = flag("spidepth", "disparity: from the stereo disparity/ of Cityscapes", choices=SOURCES)
    train: bool = flag(
        False,
        "train the CAUSE heads and the depth network first, without labels, instead of loading published "
        "checkpoints",
    )
    dry_run: bool = flag(False, "print the commands, run nothing")
    check: bool = flag(False, "look whether all is there, and what it will take; run nothing")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cityscapes_root:
            raise UserError(
                f"`cityscapes_root`: missing; give the folder that holds leftImg8bit/, or set {ROOT_VARIABLE}"
            )
        if not self.dry_run and not (Path(self.cityscapes_root) / "leftImg8bit").is_dir():
            raise UserError(f"{self.cityscapes_root}: holds no leftImg8bit/; give the root of Cityscapes")
        if self.names is not None and not self.dry_run and not self.names.is_file():
            raise UserError(f"{self.names}: no such file; save names by `save_names` of an evaluation")

    @property
    def root(self) -> Path:
        """The folder that is written into."""
        return Path(self.output_root or self.cityscapes_root)

    def options(self) -> Stage1Options:
        """Return the run that is asked for."""
        output = self.root
        train_depth = self.train and self.depth == "spidepth"
        return Stage1Options(
            Path(self.cityscapes_root),
            output,
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
        )
