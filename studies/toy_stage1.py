"""The experiments behind the reports, as commands: Stage 1 on toy streets, in all its variants."""

from __future__ import annotations

from dataclasses import dataclass

from pseudo_labels.settings.labels import OBJECT_CLASSES
from pseudo_labels.settings.outlines import NETWORK, OUTLINES, STEREO
from pseudo_labels.steps.folders import (
    CAUSE_SEMANTICS,
    DEPTH_FOLDER,
    INSTANCE_PREFIX,
    SLOT_METHOD,
    object_instances,
    object_semantics,
)
from pseudo_labels.steps.stage1 import Command, Stage1Steps
from studies import commands
from studies.toy_runs import ToyRuns, ToySeed
from studies.toy_settings import (
    CLUSTERS,
    MIN_AREA,
    OVERCLUSTERS,
    REGIONS,
    SMALL_DINOSAUR,
    SMALL_HEADS,
    SMALL_REFINE_NET,
    TOY_DEPTH,
)

DATA_SEED = 13
CAUSE = CAUSE_SEMANTICS
LEARNED = "overclusters_learned_depth"
"""Result file of the overclusters with objects by learned depth."""
OBJECTS = "object_classes"
"""Result file of the same objects with classes of their own: the labels of the demo."""
LEARNED_INSTANCES = f"{INSTANCE_PREFIX}learned_depth"
OBJECT_SEMANTICS = object_semantics(OVERCLUSTERS)
OBJECT_INSTANCES = object_instances(LEARNED_INSTANCES, OVERCLUSTERS)
MERGED = f"{OVERCLUSTERS}_merged27"
KS = (27, 50, 100, 200, 300)
GRAD_THRESHOLD = OUTLINES[STEREO].cut
"""The default step of stereo depth."""
LOW_STEP = OUTLINES[NETWORK].propose
"""The default step of objects in a network's depth."""
GRAD_THRESHOLDS = (0.05, 0.1, GRAD_THRESHOLD, 0.2, 0.3, 0.5)
LOW_STEPS = (0.01, 0.02, LOW_STEP, 0.05, 0.1, 0.2)
MIN_AREAS = (150, 300, MIN_AREA, 700, 1400)


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
        ("--proposals", "objects"),
        LOW_STEP,
        LOW_STEPS,
        learned=True,
    ),
}
"""Name of the folder -> sweep."""


def learned_depth(runs: ToyRuns) -> list[Command]:
    """Write depth by the network that learned from video of another toy city, once for all seeds."""
    steps = Stage1Steps(runs.data, runs.folder / "learned", num_workers=runs.workers)
    return [steps.depth("all", "--checkpoint_dir", str(TOY_DEPTH), "--post_process")]


def learned_depth_flag(runs: ToyRuns) -> tuple[str, str]:
    """Return the flag that names the folder of learned depth."""
    return ("--depth_subdir", str(runs.folder / "learned" / DEPTH_FOLDER))


def sweep_folder(name: str) -> str:
    """Return the folder of one of `SWEEPS` in that of a seed."""
    return f"sweep_{name}"


def toy_streets(runs: ToyRuns) -> Command:
    """Return the command that renders the data: a city that the demo's settings were not developed on."""
    return commands.toy_streets(runs.data, "--seed", str(DATA_SEED))


@dataclass(frozen=True)
class ToyStage1(ToySeed):
    """Commands of Stage 1 of one seed; each method returns one, except where it says more."""

    @property
    def steps(self) -> Stage1Steps:
        """The commands of Stage 1 that write into the folder of this seed."""
        return Stage1Steps(
            self.runs.data,
            self.root,
            backbone="texton",
            heads=self.root / "cause_heads",
            seed=self.seed,
            num_workers=self.runs.workers,
            title=self.title,
        )

    def merged(self) -> Command:
        """Merge the overclusters to 27, as many as CAUSE has."""
        flags = (*REGIONS, "--merge_to", "27")
        return self.steps.overclusters("all", CLUSTERS, *flags, name="overclusters merged to 27")

    def features(self) -> Command:
        """Write the features of the backbone."""
        return self.steps.features("all")

    def refined(self, semantics: str) -> list[Command]:
        """Train RefineNet on semantics of the training split, then refine all of them."""
        folder = self.root / f"refine_net_{semantics}"
        name = f"RefineNet on {semantics}"
        return [
            self.steps.refine_net(semantics, *SMALL_REFINE_NET, folder=folder, name=name),
            self.steps.refined("all", folder / "refine_net.pth", name=f"refined {semantics}"),
        ]

    def thing_split(self, semantics: str) -> Command:
        """Decide without labels which pseudo-classes are things."""
        return self.steps.thing_split(semantics, name=f"things and stuff of {semantics}")

    @property
    def learned_split(self) -> str:
        """The file of the thing/stuff split of the overclusters that learned depth gives."""
        return str(self.root / "learned_split.json")

    @property
    def learned_inputs(self) -> tuple[str, ...]:
        """Flags of learned depth and of the split by it."""
        return (*learned_depth_flag(self.runs), "--split_json", self.learned_split)

    def learned_thing_split(self) -> Command:
        """Decide by learned depth which overclusters are things."""
        flags = (*learned_depth_flag(self.runs), "--output_json", self.learned_split)
        return self.steps.thing_split(OVERCLUSTERS, *flags, name="things and stuff by learned depth")

    def learned_scores(self) -> Command:
        """Score the overclusters with these objects."""
        flags = ("--split_json", self.learned_split)
        return self.panoptic_scores(LEARNED, OVERCLUSTERS, CLUSTERS, "learned_depth", *flags)

    def learned_objects(self) -> Command:
        """Split things, as learned depth tells them, into the objects that it proposes."""
        return self.instances(OVERCLUSTERS, "learned_depth", *self.learned_inputs)

    def object_classes(self) -> Command:
        """Give these objects classes of their own."""
        flags = ("--instance_subdir", LEARNED_INSTANCES, "--object_classes", str(OBJECT_CLASSES))
        return self.steps.object_classes("all", OVERCLUSTERS, *flags, *self.learned_inputs)

    def object_scores(self) -> Command:
        """Score these classes and objects."""
        instances, results = OBJECT_INSTANCES, self.runs.stem(self.seed, OBJECTS)
        return self.steps.panoptic_scores(
            f"scores {OBJECTS}", OBJECT_SEMANTICS, None, results, instances=instances
        )

    def instances(self, semantics: str, method: str, *flags: str) -> Command:
        """Split the things of `semantics` into `pseudo_instance_{method}`."""
        flags = ("--method_name", method, *flags)
        return self.steps.instances("all", semantics, *flags, name=f"instances {method}")

    def proposed_objects(self) -> Command:
        """Split the things of the overclusters into objects that depth proposes, as the demo does."""
        return self.instances(OVERCLUSTERS, "depth_guided")

    def slots(self) -> list[Command]:
        """Train DINOSAUR on textons, then split the things of the overclusters by its slots."""
        flags = ("--method_name", SLOT_METHOD, "--proposals", "slots")
        return [
            self.steps.slots("texton", *SMALL_DINOSAUR),
            self.steps.slot_instances("val", OVERCLUSTERS, *flags, name="instances dinosaur"),
        ]

    def panoptic_scores(self, name: str, semantics: str, classes: int, method: str, *flags: str) -> Command:
        """Score semantics with instances on the validation split into the result file `name`."""
        results, instances = self.runs.stem(self.seed, name), INSTANCE_PREFIX + method
        title = f"scores {name}"
        return self.steps.panoptic_scores(title, semantics, classes, results, *flags, instances=instances)

    def semantic_scores(self, name: str, semantics: str, classes: int) -> Command:
        """Score semantics alone on the validation split, classes named by those of the training split."""
        return self.steps.command(
            f"scores {name}",
            "evaluation/evaluate_semantic_pseudolabels",
            "val",
            *("--semantic_subdir", semantics, "--labels", "clusters", "--num_semantic_classes", str(classes)),
            *("--match_split", "train", "--results", str(self.runs.stem(self.seed, name))),
        )

    def overclustering(self) -> Command:
        """Measure clusters of CAUSE codes for many k, matched to classes on the training split too."""
        flags = (*self.steps.head_flags, *self.steps.seeded, "--ks", *map(str, KS), "--match_split", "train")
        return self.steps.command("clusters for many k", "overclustering_cause", "val", *flags)

    def sweep(self, name: str) -> Command:
        """Score the grid of one of `SWEEPS`."""
        sweep = SWEEPS[name]
        return self.steps.command(
            f"sweep of {name}",
            "sweep_k50_spidepth",
            "val",
            *("--semantic_subdir", OVERCLUSTERS, "--output_dir", str(self.root / sweep_folder(name))),
            *sweep.flags,
            *("--grad_thresholds", *map(str, sweep.grid), "--min_areas", *map(str, MIN_AREAS)),
            *(self.learned_inputs if sweep.learned else ()),
        )

    def clusters(self) -> list[Command]:
        """Return the commands up to both kinds of semantics."""
        return [
            self.steps.cause_heads(*SMALL_HEADS),
            self.steps.cause_semantics("all"),
            self.steps.overclusters("all", CLUSTERS, *REGIONS, "--raw"),
        ]

    def semantics(self) -> list[Command]:
        """Return the commands up to both kinds of semantics, with stereo depth and its thing/stuff splits."""
        return [
            *self.clusters(),
            self.steps.depth("all", "--source", "disparity", name="depth from disparity"),
            self.thing_split(CAUSE),
            self.thing_split(OVERCLUSTERS),
        ]
