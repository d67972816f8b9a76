"""The label-efficient curve: its settings, its trainings and evaluations, its report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cups.allowed import COUNT, SEED, SHARE
from cups.errors import UserError
from cups.training.choices import TRAINABLE
from pseudo_labels.steps.flags import Settings, flag
from pseudo_labels.steps.stage1 import ROOT, Command
from studies.commands import toy_streets
from studies.training_commands import TrainingCommands

if TYPE_CHECKING:
    from cups.evaluation.results import Result

CONFIG = ROOT / "configs" / "label_efficient_toy.yaml"
STARTS = ("checkpoint", "dino", "random")
NAMES = {"checkpoint": "our checkpoint", "dino": "DINO", "random": "random weights"}


@dataclass(frozen=True)
class CurveSettings(Settings):
    """Label-efficient curve."""

    checkpoint: Path | None = flag(None, "network to start from, of Stage 2 or 3; for the start `checkpoint`")
    data_root: Path | None = flag(None, "data with ground truth (default: toy streets are rendered)")
    output: Path = flag(ROOT / "runs" / "label_efficient", "folder of runs and report")
    config: Path = flag(CONFIG, "configuration of the fine-tuning")
    fractions: tuple[float, ...] = flag((0.01, 0.03, 0.1, 0.3, 1.0), "shares of the frames", allowed=SHARE)
    starts: tuple[str, ...] = flag(("checkpoint", "random"), "where training starts", choices=STARTS)
    trainable: str = flag("all", "what is trained", choices=TRAINABLE)
    steps: int | None = flag(None, "steps of each training (default: the configuration's)", allowed=COUNT)
    seeds: tuple[int, ...] = flag((0,), "seeds of share and training", allowed=SEED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if "checkpoint" in self.starts and self.checkpoint is None:
            raise UserError("`checkpoint`: missing; give a network, or leave it out of `starts`")


@dataclass(frozen=True)
class Point:
    """One training of the curve."""

    start: str
    fraction: float
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.start}_{100 * self.fraction:g}_percent_seed_{self.seed}".replace(".", "_")


@dataclass(frozen=True)
class Curve:
    """What the settings ask for: the points, and the commands that make them."""

    settings: CurveSettings
    output: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", self.settings.output.resolve())

    @property
    def data(self) -> Path:
        """Cityscapes root of the frames."""
        given = self.settings.data_root
        return given.resolve() if given else self.output / "toy_streets"

    @property
    def points(self) -> list[Point]:
        """All trainings, the cheapest share first, so that a stopped study holds whole rows."""
        told = self.settings
        shares = sorted(set(told.fractions))
        return [Point(start, share, seed) for share in shares for seed in told.seeds for start in told.starts]

    def commands(self) -> list[Command]:
        """Return the commands of the study, in order."""
        told = self.settings
        training = TrainingCommands(self.data, self.output, config=told.config.resolve())
        commands = [] if told.data_root else [toy_streets(self.data)]
        for point in self.points:
            seed = ["SYSTEM.SEED", str(point.seed)]
            steps = ["TRAINING.STEPS", str(told.steps)] if told.steps else []
            start = ["MODEL.USE_DINO", str(point.start == "dino")]
            flags = ["--ground_truth", "--label_fraction", str(point.fraction), "--trainable", told.trainable]
            if point.start == "checkpoint":
                assert told.checkpoint is not None
                flags += ["--checkpoint", str(told.checkpoint.resolve())]
            commands.append(
                training.fine_tuning(f"train {point.name}", point.name, flags, [*start, *seed, *steps])
            )
            commands.append(
                training.evaluation(f"evaluate {point.name}", point.name, pairs=seed, pictures=False)
            )
        return commands

    def results(self, point: Point) -> Path:
        """Return the folder of the results of a point."""
        return self.output / f"{point.name}_val"


def report(curve: Curve) -> str:
    """Return the report, Markdown: what each start reaches, and what the checkpoint gains over the others."""
    from cups.config import build_config
    from cups.evaluation.comparison import rows_of, sentence
    from cups.evaluation.results import read_results, results_table
    from cups.io.provenance import code_version
    from cups.metrics.bootstrap import paired_differences

    told, gains = curve.settings, []
    results = {point: read_results(curve.results(point) / "results.json")[0] for point in curve.points}
    for point in curve.points:
        if "checkpoint" not in told.starts or point.start == "checkpoint":
            continue
        best = Point("checkpoint", point.fraction, point.seed)
        before, after = (rows_of(curve.results(other)) for other in (point, best))
        difference = paired_differences(before, after, "standard")["pq"]
        share = f"{100 * point.fraction:g} %, seed {point.seed}"
        gains.append(f"- {share}: {sentence(NAMES['checkpoint'], NAMES[point.start], difference)}")
    table = results_table([_titled(point, result) for point, result in results.items()])
    steps = told.steps or build_config(told.config).TRAINING.STEPS
    compared = "\n".join(gains) or "One start alone was asked for."
    return f"""# Label-efficient learning on {curve.data.name}

{code_version()}. Each network learnt from a seeded share of the **ground truth** of the training
frames; a larger share holds the smaller ones. All starts take the same {steps} steps at the same
rate ({told.config.name}; trained: {told.trainable}).

![Panoptic quality against the share of labels](curve.png)

{table}

## What the start is worth

{compared}

The interval is that of the frames (paired bootstrap), not of other seeds.
"""


def _titled(point: Point, result: Result) -> Result:
    from dataclasses import replace

    return replace(result, name=f"{100 * point.fraction:g} %, {NAMES[point.start]}, seed {point.seed}")


def draw(curve: Curve, path: Path) -> None:
    """Draw PQ against the share of labels, a line for each start, a dot for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from cups.evaluation.results import read_results
    from cups.io.files import atomic_write

    figure, axis = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
    colors = {"checkpoint": "#e4572e", "dino": "#2e86ab", "random": "#7a7a7a"}
    for start in curve.settings.starts:
        values: dict[float, list[float]] = {}
        for point in curve.points:
            if point.start == start:
                pq = read_results(curve.results(point) / "results.json")[0].metrics["pq"]
                values.setdefault(100 * point.fraction, []).append(100 * pq)
        means = [sum(some) / len(some) for some in values.values()]
        axis.plot(list(values), means, marker="o", color=colors[start], label=NAMES[start])
        for share, some in values.items():
            axis.scatter([share] * len(some), some, s=12, color=colors[start], alpha=0.5)
    axis.set(xscale="log", xlabel="frames with ground truth, %", ylabel="PQ, %")
    axis.set_xticks(list(values), [f"{share:g}" for share in values])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=120))
    plt.close(figure)
