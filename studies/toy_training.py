"""The experiments behind the reports, as steps: Stage 2 and Stage 3 on the labels of a seed's Stage 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cups.config import build_config
from studies.commands import Step
from studies.demo import CONFIG, LABELS, checkpoint_of, self_training_step, training_step, validation_step
from studies.toy_runs import ToyRuns
from studies.toy_stage1 import CLUSTERS, OVERCLUSTERS, ToyStage1, toy_streets

STEPS = 3600
"""Of Stage 2 before self-training: three times the demo's, which has to end within minutes."""
ROUNDS = int(build_config(CONFIG).SELF_TRAINING.ROUNDS)
PSEUDO_LABELS = "overclusters_depth"
"""Result file of the labels that are trained on: those of the demo."""


def network_result(run_name: str) -> str:
    """Return the name of the result file of a network."""
    return f"{run_name}_val/results"


def prediction_folder(runs: ToyRuns, seed: int, run_name: str) -> Path:
    """Return where the panoptic maps of an evaluated network are."""
    return runs.stem(seed, network_result(run_name)).parent / "predictions"


@dataclass(frozen=True)
class ToyTraining:
    """Steps of one seed, with the demo's network and settings."""

    runs: ToyRuns
    seed: int

    @property
    def root(self) -> Path:
        """Folder of the seed, of which each run is a sub-folder."""
        return self.runs.root(self.seed)

    @property
    def labels(self) -> Path:
        """The training labels."""
        return self.root / LABELS

    def label_steps(self) -> list[Step]:
        """Make the labels, score them, and convert those of the training frames."""
        stage1 = ToyStage1(self.runs, self.seed)
        where = ("--semantic_subdir", OVERCLUSTERS, "--instance_subdir", "pseudo_instance_depth_guided")
        classes = ("--num_semantic_classes", str(CLUSTERS))
        return [
            toy_streets(self.runs),
            *stage1.semantics(),
            stage1.proposed_objects(),
            stage1.panoptic_scores(PSEUDO_LABELS, OVERCLUSTERS, CLUSTERS, "depth_guided"),
            stage1.step(
                "CUPS format",
                "convert_to_cups_format",
                "train",
                *(*where, *classes, "--output_dir", self.labels),
            ),
        ]

    def stage2(
        self, name: str, run_name: str, pairs: Sequence[str] = (), labels: Path | None = None
    ) -> list[Step]:
        """Train Stage 2 into the run `run_name`, and evaluate it."""
        return [
            training_step(
                self._titled(name),
                self.runs.data,
                labels or self.labels,
                self.root,
                run_name,
                (*self._seeded, *pairs),
            ),
            self.evaluation(name, run_name, checkpoint_of(self.root, run_name), pairs),
        ]

    def stage3(self, name: str, run_name: str, pairs: Sequence[str] = ()) -> Step:
        """Train Stage 3 from the run "stage2" into the run `run_name`."""
        checkpoint = checkpoint_of(self.root, "stage2")
        return self_training_step(
            self._titled(name), self.runs.data, checkpoint, self.root, run_name, (*self._seeded, *pairs)
        )

    def evaluation(self, name: str, result: str, checkpoint: Path, pairs: Sequence[str] = ()) -> Step:
        """Score a checkpoint on the validation split into `network_result(result)`."""
        return validation_step(
            self._titled(f"{name}, evaluated"),
            self.runs.data,
            self.root / "results",
            result,
            (*self._seeded, *pairs),
            checkpoint=checkpoint,
        )

    def round_evaluation(self, name: str, run_name: str, result: str, checkpoint: str) -> Step:
        """Score one of the checkpoints of a self-training: "best", "round_1", ..."""
        return self.evaluation(name, result, checkpoint_of(self.root, run_name, checkpoint))

    @property
    def _seeded(self) -> tuple[str, str]:
        return ("SYSTEM.SEED", str(self.seed))

    def _titled(self, name: str) -> str:
        return f"seed {self.seed}: {name}"
