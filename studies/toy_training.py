"""The experiments behind the reports, as commands: Stage 2 and Stage 3 on the labels of a seed's Stage 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cups.config import build_config
from pseudo_labels.steps.stage1 import Command
from studies.toy_runs import ToyRuns, ToySeed
from studies.toy_settings import CONFIG, LABELS
from studies.toy_stage1 import (
    OBJECT_INSTANCES,
    OBJECT_SEMANTICS,
    OBJECTS,
    ToyStage1,
    learned_depth,
    toy_streets,
)
from studies.training_commands import TrainingCommands

ROUNDS = int(build_config(CONFIG).SELF_TRAINING.ROUNDS)
STAGE2, STAGE3 = "stage2", "stage3"
"""Runs with the demo's settings, which reports share."""
PSEUDO_LABELS = OBJECTS
"""Result file of the labels that are trained on: those of the demo. They see the single image, as networks
do; stereo on the validation frames would be a head start that no network has."""


def network_result(run_name: str) -> str:
    """Return the name of the result file of a network."""
    return f"{run_name}_val/results"


def prediction_folder(runs: ToyRuns, seed: int, run_name: str) -> Path:
    """Return where the panoptic maps of an evaluated network are."""
    return runs.stem(seed, network_result(run_name)).parent / "predictions"


@dataclass(frozen=True)
class ToyTraining(ToySeed):
    """Commands of Stage 2 and 3 of one seed, with the demo's network and settings."""

    @property
    def labels(self) -> Path:
        """The training labels."""
        return self.root / LABELS

    @property
    def commands(self) -> TrainingCommands:
        """The trainings that write into the folder of this seed."""
        pairs = ("SYSTEM.SEED", str(self.seed))
        return TrainingCommands(self.runs.data, self.root, pairs, title=self.title)

    def label_steps(self) -> list[Command]:
        """Make the labels, score them, and convert those of the training frames."""
        stage1 = ToyStage1(self.runs, self.seed)
        return [
            toy_streets(self.runs),
            *learned_depth(self.runs),
            *stage1.clusters(),
            stage1.learned_thing_split(),
            stage1.learned_objects(),
            stage1.object_classes(),
            stage1.object_scores(),
            stage1.steps.cups_format("train", OBJECT_SEMANTICS, self.labels, None, OBJECT_INSTANCES),
        ]

    def stage2(
        self, name: str, run_name: str, pairs: Sequence[str] = (), labels: Path | None = None
    ) -> list[Command]:
        """Train Stage 2 into the run `run_name`, and evaluate it."""
        return [
            self.commands.stage2(name, labels or self.labels, run_name, pairs),
            self.evaluation(name, run_name, self.commands.checkpoint(run_name), pairs),
        ]

    def long_stage2(
        self, name: str = "Stage 2", run_name: str = STAGE2, pairs: Sequence[str] = ()
    ) -> list[Command]:
        """Train Stage 2 with the budget of the reports, and evaluate it; by default the shared run."""
        return self.stage2(name, run_name, ("TRAINING.STEPS", str(self.runs.steps), *pairs))

    def stage3(self, name: str, run_name: str, pairs: Sequence[str] = (), start: str = STAGE2) -> Command:
        """Train Stage 3 from a run of Stage 2 into the run `run_name`."""
        return self.commands.stage3(name, self.commands.checkpoint(start), run_name, pairs)

    def best_stage3(
        self, name: str = "Stage 3", run_name: str = STAGE3, start: str = STAGE2
    ) -> list[Command]:
        """Train Stage 3 from a run of Stage 2, and evaluate the round that it chooses without labels."""
        return [
            self.stage3(name, run_name, start=start),
            self.round_evaluation(name, run_name, run_name, "best"),
        ]

    def evaluation(self, name: str, result: str, checkpoint: Path, pairs: Sequence[str] = ()) -> Command:
        """Score a checkpoint on the validation split into `network_result(result)`."""
        folder = self.root / "results"
        return self.commands.evaluation(f"{name}, evaluated", result, checkpoint, pairs, folder)

    def round_evaluation(self, name: str, run_name: str, result: str, checkpoint: str) -> Command:
        """Score one of the checkpoints of a self-training: "best", "round_1", ..."""
        return self.evaluation(name, result, self.commands.checkpoint(run_name, checkpoint))
