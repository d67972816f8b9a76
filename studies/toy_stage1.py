"""The experiments behind the reports, as steps: Stage 1 on toy streets, in all its variants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from studies.commands import SMALL_HEADS, Step
from studies.demo import BLUR, LOW_STEP, OUTLINES, PROPOSALS, depth_steps
from studies.toy_runs import ToyRuns

DATA_SEED = 1
CLUSTERS = 120
CAUSE = "pseudo_semantic_cause27"
OVERCLUSTERS = f"pseudo_semantic_raw_k{CLUSTERS}"
MERGED = f"{OVERCLUSTERS}_merged27"
FEATURES = "features_texton"
KS = (27, 50, 100, 200, 300)
GRAD_THRESHOLD, MIN_AREA = 0.15, 60
"""The demo's: the default depth step, and an area that is 1700 pixels of a Cityscapes frame."""
GRAD_THRESHOLDS = (0.05, 0.1, GRAD_THRESHOLD, 0.2, 0.3, 0.5)
LOW_STEPS = (0.01, 0.02, LOW_STEP, 0.05, 0.1, 0.2)
MIN_AREAS = (20, 40, MIN_AREA, 100, 200)


@dataclass(frozen=True)
class Sweep:
    """A grid of depth steps and least areas for one way to propose instances.

    Attributes:
        words: what reports call it.
        baseline: what they call the components that it is compared with.
        flags: the way.
        fixed: the depth step that was chosen beforehand.
        grid: the depth steps that are tried.
        learned: depth of the network instead of stereo.
    """

    words: str
    baseline: str
    flags: tuple[str, ...]
    fixed: float = GRAD_THRESHOLD
    grid: tuple[float, ...] = GRAD_THRESHOLDS
    learned: bool = False


IN_CLASSES, IN_THINGS = "connected components of each class", "connected components of all things together"
SWEEPS = {
    "classes": Sweep("depth edges inside each class", IN_CLASSES, ("--proposals", "classes")),
    "things": Sweep("depth edges inside all things together", IN_THINGS, ("--proposals", "things")),
    "objects": Sweep("objects proposed by depth", IN_THINGS, ("--proposals", "objects")),
    "learned": Sweep(
        "objects proposed by learned depth",
        f"{IN_THINGS}, as learned depth tells things from stuff",
        ("--proposals", "objects", *BLUR),
        LOW_STEP,
        LOW_STEPS,
        learned=True,
    ),
}
"""Name of the folder -> sweep."""

SMALL_DINOSAUR = (
    *("--num_slots", "16", "--slot_dim", "64", "--decoder_dim", "256"),
    *("--steps", "300", "--batch_size", "8", "--lr", "1e-3"),
)
"""Slots that train in minutes on two cores."""

SMALL_REFINE_NET = ("--crop", "96", "--channels", "32", "--batch_size", "4", "--steps", "150")
"""A RefineNet that trains in minutes on two cores."""


def learned_depth(runs: ToyRuns) -> list[Step]:
    """Write depth by the network that learned from video of another toy city, once for all seeds."""
    root = ("--cityscapes_root", str(runs.data), "--output_root", str(runs.folder / "learned"))
    workers = ("--num_workers", str(runs.workers))
    return depth_steps(runs.folder / "learned", (*root, *workers), "learned", seed=0)


def learned_depth_flag(runs: ToyRuns) -> tuple[str, str]:
    """Return the flag that names the folder of learned depth."""
    return ("--depth_subdir", str(runs.folder / "learned" / "depth_spidepth"))


def refined_folder(semantics: str) -> str:
    """Return the folder of refined semantics."""
    return semantics.replace("pseudo_semantic_", "pseudo_semantic_refined_", 1)


def sweep_folder(name: str) -> str:
    """Return the folder of one of `SWEEPS` in that of a seed."""
    return f"sweep_{name}"


def toy_streets(runs: ToyRuns) -> Step:
    """Return the step that renders the data: a city that the demo's settings were not developed on."""
    arguments = ("--output", str(runs.data), "--seed", str(DATA_SEED))
    return Step("toy streets", "cups.data.toy_streets", arguments)


@dataclass(frozen=True)
class ToyStage1:
    """Steps of one seed; each method returns one step, except where it says more."""

    runs: ToyRuns
    seed: int

    def step(self, name: str, script: str, split: str, *arguments: str | Path) -> Step:
        """Return a step of `pseudo_labels/` that writes into the folder of this seed."""
        places = ("--cityscapes_root", self.runs.data, "--output_root", self.root, "--split", split)
        workers = ("--num_workers", self.runs.workers)
        return Step(
            f"seed {self.seed}: {name}",
            f"pseudo_labels/{script}.py",
            tuple(map(str, (*places, *workers, *arguments))),
        )

    @property
    def root(self) -> Path:
        """Where this seed's labels and networks are."""
        return self.runs.root(self.seed)

    @property
    def seeded(self) -> tuple[str, str]:
        """Flag of the seed."""
        return ("--seed", str(self.seed))

    @property
    def heads(self) -> tuple[str, ...]:
        """Flags of backbone and CAUSE heads."""
        folder = str(self.root / "cause_heads")
        return ("--backbone", "texton", "--checkpoint_dir", folder)

    def cause_heads(self) -> Step:
        """Train codebook, decoder and probe without labels."""
        return self.step("CAUSE heads", "train_cause", "train", *self.heads, *self.seeded, *SMALL_HEADS)

    def cause_semantics(self) -> Step:
        """Write the 27 clusters of CAUSE and its codes."""
        return self.step("CAUSE semantics", "generate_semantic_pseudolabels_cause", "all", *self.heads)

    def overclusters(self, name: str = "overclusters", split: str = "all", kind: str = "--raw") -> Step:
        """Cluster features with their surroundings, region by region, as the demo does."""
        flags = ("--k", str(CLUSTERS), "--features", "context", "--regions", *kind.split())
        return self.step(name, "generate_overclustered_semantics", split, *self.heads, *self.seeded, *flags)

    def merged(self) -> Step:
        """Merge the same clusters to 27, as many as CAUSE has."""
        return self.overclusters("overclusters merged to 27", "all", "--merge_to 27")

    def features(self) -> Step:
        """Write the features of the backbone."""
        return self.step("features", "extract_dinov2_features", "all", "--backbone", "texton")

    def refined(self, semantics: str) -> list[Step]:
        """Train RefineNet on semantics of the training split, then refine all of them."""
        inputs = ("--semantic_subdir", semantics, "--features_subdir", FEATURES, *self.seeded)
        folder = self.root / f"refine_net_{semantics}"
        training = ("--checkpoint_dir", folder, *inputs, *SMALL_REFINE_NET)
        checkpoint = ("--checkpoint", folder / "refine_net.pth")
        return [
            self.step(f"RefineNet on {semantics}", "train_refine_net", "train", *training),
            self.step(f"refined {semantics}", "generate_refined_semantics", "all", *checkpoint),
        ]

    def disparity_depth(self) -> Step:
        """Write depth from rendered stereo disparity."""
        flags = ("--source", "disparity")
        return self.step("depth from disparity", "generate_depth_spidepth", "all", *flags)

    def thing_split(self, semantics: str) -> Step:
        """Decide without labels which pseudo-classes are things."""
        name = f"things and stuff of {semantics}"
        return self.step(name, "classify_stuff_things", "train", "--semantic_subdir", semantics)

    @property
    def learned_split(self) -> str:
        """The file of the thing/stuff split of the overclusters that learned depth gives."""
        return str(self.root / "learned_split.json")

    @property
    def learned_inputs(self) -> tuple[str, ...]:
        """Flags of learned depth and of the split by it."""
        return (*learned_depth_flag(self.runs), "--split_json", self.learned_split)

    def learned_thing_split(self) -> Step:
        """Decide by learned depth which overclusters are things."""
        where = ("--semantic_subdir", OVERCLUSTERS, *learned_depth_flag(self.runs))
        flags = (*where, "--output_json", self.learned_split, *OUTLINES["learned"])
        return self.step("things and stuff by learned depth", "classify_stuff_things", "train", *flags)

    def learned_objects(self) -> Step:
        """Split things, as learned depth tells them, into the objects that it proposes."""
        return self.instances(OVERCLUSTERS, "learned_depth", *PROPOSALS["learned"], *self.learned_inputs)

    def instances(self, semantics: str, method: str, *flags: str) -> Step:
        """Split the things of `semantics` into `pseudo_instance_{method}`."""
        where = ("--semantic_subdir", semantics, "--method_name", method)
        script = "generate_depth_guided_instances"
        return self.step(f"instances {method}", script, "all", *where, "--min_area", str(MIN_AREA), *flags)

    def proposed_objects(self) -> Step:
        """Split the things of the overclusters into objects that depth proposes, as the demo does."""
        return self.instances(OVERCLUSTERS, "depth_guided", *PROPOSALS["disparity"])

    def slots(self) -> list[Step]:
        """Train DINOSAUR on textons, then split the things of the overclusters by its slots."""
        network = ("--backbone", "texton", *self.seeded, *SMALL_DINOSAUR)
        where = ("--semantic_subdir", OVERCLUSTERS, "--proposals", "slots", "--min_area", str(MIN_AREA))
        return [
            self.step("DINOSAUR", "train_dinosaur", "train", *network),
            self.step("instances dinosaur", "generate_dinosaur_instances", "val", *where, *self.seeded),
        ]

    def panoptic_scores(self, name: str, semantics: str, classes: int, method: str, *flags: str) -> Step:
        """Score semantics with instances on the validation split into the result file `name`."""
        where = ("--semantic_subdir", semantics, "--instance_subdir", f"pseudo_instance_{method}")
        files = ("--num_semantic_classes", str(classes), "--results", self.runs.stem(self.seed, name))
        return self.step(f"scores {name}", "evaluation/evaluate_pseudolabels", "val", *where, *files, *flags)

    def semantic_scores(self, name: str, semantics: str, classes: int) -> Step:
        """Score semantics alone on the validation split, classes named by those of the training split."""
        flags = (
            "--semantic_subdir",
            semantics,
            "--labels",
            "clusters",
            "--num_semantic_classes",
            str(classes),
        )
        flags += ("--match_split", "train")
        script = "evaluation/evaluate_semantic_pseudolabels"
        return self.step(
            f"scores {name}", script, "val", *flags, "--results", self.runs.stem(self.seed, name)
        )

    def overclustering(self) -> Step:
        """Measure clusters of CAUSE codes for many k, matched to classes on the training split too."""
        flags = ("--ks", *map(str, KS), "--match_split", "train")
        return self.step(
            "clusters for many k", "overclustering_cause", "val", *self.heads, *self.seeded, *flags
        )

    def sweep(self, name: str) -> Step:
        """Score the grid of one of `SWEEPS`."""
        sweep = SWEEPS[name]
        flags = (
            *sweep.flags,
            "--grad_thresholds",
            *map(str, sweep.grid),
            "--min_areas",
            *map(str, MIN_AREAS),
        )
        if sweep.learned:
            flags += self.learned_inputs
        where = ("--semantic_subdir", OVERCLUSTERS, "--output_dir", self.root / sweep_folder(name))
        return self.step(f"sweep of {name}", "sweep_k50_spidepth", "val", *where, *flags)

    def semantics(self) -> list[Step]:
        """Return the steps up to both kinds of semantics, with depth and thing/stuff splits."""
        return [
            self.cause_heads(),
            self.cause_semantics(),
            self.overclusters(),
            self.disparity_depth(),
            self.thing_split(CAUSE),
            self.thing_split(OVERCLUSTERS),
        ]
