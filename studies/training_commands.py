"""Commands that train and evaluate Stage 2 and Stage 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pseudo_labels.steps.stage1 import Command
from studies.toy_settings import CONFIG


@dataclass(frozen=True)
class TrainingCommands:
    """What the trainings of a study share; each method returns one command.

    Attributes:
        data: Cityscapes root.
        output: holds a folder for each run.
        pairs: `KEY VALUE` overrides of the configuration, for all commands.
        config: the configuration.
        title: stands before the name of each command.
    """

    data: Path
    output: Path
    pairs: tuple[str, ...] = ()
    config: Path = CONFIG
    title: str = ""

    def stage2(self, name: str, labels: Path, run_name: str, pairs: Sequence[str] = ()) -> Command:
        """Train Stage 2 on labels into `output/run_name`."""
        return self._training(name, "train.py", run_name, ("--pseudo_root", str(labels)), pairs)

    def stage3(self, name: str, checkpoint: Path, run_name: str, pairs: Sequence[str] = ()) -> Command:
        """Train Stage 3 from a checkpoint of Stage 2 into `output/run_name`."""
        return self._training(name, "train_self.py", run_name, ("--checkpoint", str(checkpoint)), pairs)

    def fine_tuning(
        self, name: str, run_name: str, start: Sequence[str], pairs: Sequence[str] = ()
    ) -> Command:
        """Train on ground truth into `output/run_name`; `start`: flags of the labels and of the network."""
        return self._training(name, "train.py", run_name, start, pairs)

    def checkpoint(self, run_name: str, name: str = "last") -> Path:
        """Return a checkpoint of a run: `last`, or of self-training `best` or `round_1`, ..."""
        return self.output / run_name / "checkpoints" / f"{name}.ckpt"

    def evaluation(
        self,
        name: str,
        result: str,
        checkpoint: Path | None = None,
        pairs: Sequence[str] = (),
        folder: Path | None = None,
        pictures: bool = True,
    ) -> Command:
        """Score a checkpoint (the last of the run `result`) into `{result}_val` in a folder (`output`)."""
        checkpoint = checkpoint or self.checkpoint(result)
        shown = ("--visualize_results",) if pictures else ()
        flags = (*shown, "--data_root", str(self.data), "--checkpoint", str(checkpoint))
        where = ("--run_name", result, "--output_dir", str((folder or self.output) / f"{result}_val"))
        return self._command(name, "val.py", (*flags, *where), pairs)

    def _training(
        self, name: str, script: str, run_name: str, start: Sequence[str], pairs: Sequence[str]
    ) -> Command:
        """Killed, a training resumes."""
        where = ("--data_root", str(self.data), "--log_path", str(self.output), "--run_name", run_name)
        flags = ("--disable_wandb", "--resume_if_possible", *where, *start)
        return self._command(name, script, flags, pairs)

    def _command(self, name: str, script: str, flags: Sequence[str], pairs: Sequence[str]) -> Command:
        config = ("--experiment_config_file", str(self.config))
        return Command(self.title + name, script, (*config, *flags, *self.pairs, *pairs))
