"""Where the runs on toy streets that the reports are made of lie, and what their result files say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cups.errors import UserError
from cups.evaluation.results import Result, read_results, rows_path
from cups.io.files import read_json, write_json
from cups.io.provenance import read_provenance
from cups.metrics.scored_rows import ScoredRows
from pseudo_labels.steps.stage1 import Command
from studies.commands import check_streets, recorded
from studies.measure import StepRecord, machine_line
from studies.toy_settings import FRAMES, STEPS

REPEAT = "run `python -m studies.make_reports` again"


@dataclass(frozen=True)
class ToyRuns:
    """The folder of all runs: `toy_streets/` and `machine.json` for all seeds, `seed_{n}/` for one.

    Attributes:
        folder: holds everything.
        seeds: of clustering and training; the data are the same for all.
        workers: processes of each step.
        steps: of Stage 2; one folder holds runs of one budget.
    """

    folder: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    workers: int = 2
    steps: int = STEPS

    @property
    def data(self) -> Path:
        """The toy data set."""
        return self.folder / "toy_streets"

    @property
    def records(self) -> Path:
        """Time and memory of the steps that are done."""
        return self.folder / "steps"

    def root(self, seed: int) -> Path:
        """Labels, heads and networks of a seed."""
        return self.folder / f"seed_{seed}"

    def stem(self, seed: int, name: str) -> Path:
        """Path of a result file, without its suffix."""
        return self.root(seed) / "results" / name

    def results(self, name: str, void_rule: str = "standard") -> dict[int, Result]:
        """Return an evaluation by seed; seeds that were not run are missing.

        Args:
            name: result file, of which the first result is taken; "file, matching" picks the matching of a
                semantic evaluation. Networks: `toy_training.network_result`.
            void_rule: see `cups.metrics.protocol.VOID_RULES`.
        """
        file, _, matching = name.partition(", ")
        paths = {seed: Path(f"{self.stem(seed, file)}.json") for seed in self.seeds}
        return {
            seed: result
            for seed, path in paths.items()
            if path.is_file()
            for result in reversed(read_results(path))
            if result.void_rule == void_rule and (not matching or result.name.endswith(f", {matching}"))
        }

    def values(self, name: str, metric: str, void_rule: str = "standard") -> dict[int, float]:
        """Return a metric (share, 0-1) of an evaluation by seed, of the seeds that have it."""
        results = self.results(name, void_rule)
        return {seed: result.metrics[metric] for seed, result in results.items() if metric in result.metrics}

    def rows(self, name: str) -> dict[int, ScoredRows]:
        """Return the rows of an evaluation by seed, of the seeds that have them; `name` as in `results`."""
        paths = {seed: rows_path(self.stem(seed, name)) for seed in self.seeds}
        return {seed: ScoredRows.read(path) for seed, path in paths.items() if path.is_file()}

    def with_results(self, names: Iterable[str]) -> ToyRuns:
        """Return the runs of the seeds that have all of these evaluations; where none has, all."""
        common = set(self.seeds).intersection(*(self.results(name) for name in names))
        return replace(self, seeds=tuple(sorted(common)) or self.seeds)

    def content(self, path: str) -> dict[int, Any]:
        """Return the JSON of another result file in the folder of a seed; seeds without it are missing."""
        files = {seed: self.root(seed) / path for seed in self.seeds}
        return {seed: read_json(file, REPEAT) for seed, file in files.items() if file.is_file()}

    def done(self, steps: Iterable[Command]) -> list[StepRecord]:
        """Return the records of those steps that are done."""
        records = (recorded(step, self.records) for step in steps)
        return [record for record in records if record is not None]

    def uses_ground_truth(self, folder: str) -> dict[int, bool | None]:
        """Return what `provenance.json` of a folder says, by seed; seeds without the folder are missing."""
        found = {seed: read_provenance(self.root(seed) / folder) for seed in self.seeds}
        return {seed: entry.get("uses_ground_truth") for seed, entry in found.items() if entry is not None}

    def code_versions(self) -> list[str]:
        """Return the versions of the code that made labels and result files, each once."""
        patterns = ("*/*.json", "results/*/*.json")
        files = [file for seed in self.seeds for p in patterns for file in self.root(seed).glob(p)]
        contents = [content for file in files if isinstance(content := read_json(file, REPEAT, object), dict)]
        made = [entry for content in contents for entry in (content, *content.get("results", ()))]
        return sorted({entry["code_version"] for entry in made if entry.get("code_version")})

    def check_data(self) -> None:
        """Refuse to go on with runs on other data, as those of version 0.2: new ones would not fit them.

        Raises:
            UserError: naming the folder and the fix.
        """
        check_streets(self.data, FRAMES, "choose another folder with `runs`")

    def check_budget(self) -> None:
        """Refuse runs of another budget: their networks would be taken for those asked for.

        Raises:
            UserError: naming the folder and the fix.
        """
        path = self.folder / "budget.json"
        steps = read_json(path, REPEAT).get("steps") if path.is_file() else self.steps
        if steps != self.steps:
            raise UserError(
                f"{self.folder}: holds runs of {steps} steps; give `steps` {steps}, or another folder with "
                "`runs`"
            )

    def note_budget(self) -> None:
        """Keep with the runs how long Stage 2 is trained."""
        write_json(self.folder / "budget.json", {"steps": self.steps})

    def note_machine(self) -> None:
        """Keep with the runs which machine made them."""
        write_json(self.folder / "machine.json", {"machine": machine_line()})

    def machine(self) -> str:
        """Return the machine of the runs as noted."""
        path = self.folder / "machine.json"
        return read_json(path, REPEAT)["machine"] if path.is_file() else "not noted"


@dataclass(frozen=True)
class ToySeed:
    """The runs of one seed: what makes commands for it starts from here."""

    runs: ToyRuns
    seed: int

    @property
    def root(self) -> Path:
        """The folder of this seed's labels and networks; each training is a sub-folder."""
        return self.runs.root(self.seed)

    @property
    def title(self) -> str:
        """Stands before the names of this seed's commands."""
        return f"seed {self.seed}: "
