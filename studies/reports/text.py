"""What the reports have in common: setting, tables over seeds, verdicts computed from the numbers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cups.evaluation.results import TITLES
from cups.io.files import read_json
from cups.io.markdown import markdown_table
from cups.metrics.bootstrap import DRAWS, LEVEL, Difference, mean_differences, paired_differences
from cups.metrics.protocol import VoidRule
from studies.measure import StepRecord, duration
from studies.toy_runs import ToyRuns

NOT_RUN = "not run"
RULE = (
    "Rule: a claim holds if, for every seed, the interval of the difference lies above 0. It is not settled "
    "if every interval holds 0. Else it holds for some seeds only, or it does not hold: no interval lies "
    f"above 0, one at least below. Intervals ({100 * LEVEL:.0f} %) come from {DRAWS} draws of validation "
    "frames with replacement, the same for both sides (paired bootstrap); they know nothing of other seeds. "
    "The mean over the seeds stands last, its interval from the same draws for all of them. "
    "Where no interval stands, results have no rows of single frames, and the signs of the differences judge."
)
"""How verdicts on panoptic results come about."""
RULE_WITHOUT_ROWS = (
    "Rule: a claim holds if the difference lies above 0 for every seed. These results keep no rows of single "
    "frames, so no interval says how much the choice of frames matters."
)
"""How verdicts on other results come about."""
Values = Mapping[int, float]
"""One measure: seed -> value (a share in 0-1); seeds that were not run are missing."""


def spread(values: Values, seeds: Sequence[int] = ()) -> str:
    """Return "34.4 ± 0.8" (mean and sample standard deviation, percent), or that nothing was run.

    The value of a single seed is followed by that seed's number: one run has no spread. Where some of `seeds`
    are missing, the text says how many there are.
    """
    if not values:
        return NOT_RUN
    numbers = [100 * value for value in values.values()]
    mean = f"{statistics.fmean(numbers):.1f}"
    if len(numbers) == 1:
        return f"{mean} (seed {next(iter(values))})"
    missing = f" ({len(values)} of {len(seeds)} seeds)" if len(values) < len(seeds) else ""
    return f"{mean} ± {statistics.stdev(numbers):.1f}{missing}"


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds (None: not run), and the sentence that says so with its numbers."""

    holds: bool | None
    text: str


def judge(
    claim: str,
    ours: tuple[str, Values],
    other: tuple[str, Values],
    unit: str,
    *,
    strict: bool = True,
    why: str = "",
    intervals: Mapping[int, Difference] | None = None,
    over_seeds: Difference | None = None,
) -> Verdict:
    """Judge a claim by the pairs of runs with the same seed: it holds if it does for each of them.

    `RULE` and `RULE_WITHOUT_ROWS` say it to the reader.

    Args:
        claim: a clause, e.g. "overclustering beats plain CAUSE on mIoU".
        ours: name and values of what should be the better one.
        other: name and values of what it is compared with.
        unit: printed name of the measure.
        strict: better must be more; else not less is enough.
        why: the reason, added where the claim does not hold.
        intervals: paired differences by seed; with one for each seed, they judge instead of the bare signs.
        over_seeds: the mean of these differences, told beside them where each seed has one.
    """
    intervals = intervals or {}
    gains = {seed: ours[1][seed] - other[1][seed] for seed in ours[1] if seed in other[1]}
    if not gains:
        return Verdict(None, f"**Not run**: {claim}.")
    told = all(seed in intervals for seed in gains)
    good = [
        intervals[seed].sign > 0 if told else gain > 0 or (gain == 0 and not strict)
        for seed, gain in gains.items()
    ]
    open_question = told and not any(intervals[seed].sign for seed in gains)
    head = "Holds" if all(good) else "Holds for some seeds only" if any(good) else "Does not hold"
    head = "Not settled" if open_question else head
    first, second = (spread({seed: values[seed] for seed in gains}) for _, values in (ours, other))
    listed = ", ".join(
        f"{100 * gain:+.2f} (seed {seed}{_within(intervals[seed]) if told else ''})"
        for seed, gain in sorted(gains.items())
    )
    numbers = f"{unit}: {ours[0]} {first}, {other[0]} {second}; difference {listed}"
    if over_seeds is not None and told:
        numbers += f"; mean {100 * over_seeds.gain:+.2f}{_within(over_seeds, ' (')})"
    reason = f" {why}" if why and not all(good) else ""
    return Verdict(all(good), f"**{head}**: {claim}. {numbers}.{reason}")


def _within(one: Difference, before: str = ", ") -> str:
    return f"{before}{one.interval(2)}"


def judge_runs(
    runs: ToyRuns,
    claim: str,
    ours: tuple[str, str],
    other: tuple[str, str],
    metric: str = "pq",
    void_rule: VoidRule = "standard",
    *,
    why: str = "",
) -> Verdict:
    """Judge a claim on panoptic results by their intervals, where their rows were kept.

    Args:
        ours, other: printed name and result file, of what should be the better one and of its rival.
        metric: one of `cups.metrics.bootstrap.METRICS`.
        why: see `judge`.
    """
    first, second = ((name, runs.values(file, metric, void_rule)) for name, file in (ours, other))
    mine, theirs = (runs.rows(file) for _, file in (ours, other))
    pairs = {seed: (theirs[seed], rows) for seed, rows in mine.items() if seed in theirs}
    intervals = {seed: paired_differences(*pair, void_rule)[metric] for seed, pair in pairs.items()}
    over_seeds = mean_differences([*pairs.values()], void_rule)[metric] if len(pairs) > 1 else None
    return judge(claim, first, second, TITLES[metric], why=why, intervals=intervals, over_seeds=over_seeds)


def verdict_list(verdicts: Iterable[Verdict]) -> str:
    """Return the verdicts as a Markdown list."""
    return "\n".join(f"- {verdict.text}" for verdict in verdicts)


def table(report: str, rows: Iterable[Sequence[Any]], columns: Sequence[str]) -> str:
    """Return a Markdown table under a comment with the command that makes it."""
    return f"<!-- python -m studies.make_reports --only {report} -->\n\n{markdown_table(rows, columns)}"


def metrics_table(
    report: str,
    runs: ToyRuns,
    variants: Sequence[tuple[str, str]],
    metrics: Sequence[str] = ("pq", "pq_things", "pq_stuff", "miou"),
    void_rule: str = "standard",
) -> str:
    """Return the table of evaluations, mean and spread over the seeds.

    Args:
        variants: (printed name, name of the result file).
        metrics: keys of `cups.evaluation.results.TITLES`.
    """
    rows = [
        (name, *(spread(runs.values(file, metric, void_rule), runs.seeds) for metric in metrics))
        for name, file in variants
    ]
    return table(report, rows, ("", *(TITLES[metric] for metric in metrics)))


def published_table(report: str, rows: Iterable[Sequence[str]]) -> str:
    """Return the table of published figures; `rows`: what, figures, protocol, source, confidence."""
    note = (
        "Another data set (Cityscapes), other networks and sizes: to be looked up here, not to be compared "
        "with the tables above. Confidence A: read in the paper or its official code; B: quoted by another "
        "source; C: reported by its authors without review."
    )
    columns = ("published, Cityscapes val", "figures", "protocol", "source", "confidence")
    return f"{note}\n\n{table(report, rows, columns)}"


def steps_summary(report: str, records: Sequence[StepRecord]) -> str:
    """Return the table of steps: mean time, runs, highest peak memory; "seed N: " is cut from names."""
    groups: dict[str, list[StepRecord]] = {}
    for record in records:
        groups.setdefault(step_title(record.name), []).append(record)
    rows: list[tuple[str, str, int | str, str]] = [
        (
            name,
            duration(statistics.fmean(record.seconds for record in group)),
            len(group),
            f"{max(record.peak_memory_mb for record in group):.0f} MB",
        )
        for name, group in groups.items()
    ]
    if not rows:
        rows = [(NOT_RUN, "", "", "")]
    return table(report, rows, ("step", "mean time", "runs", "peak memory"))


def step_title(name: str) -> str:
    """Return the name of a step without its seed."""
    return name.split(": ", 1)[1] if name.startswith("seed ") else name


def header(title: str, question: str, runs: ToyRuns, report: str) -> str:
    """Return title, question and setting of a report."""
    seeds, versions = ", ".join(map(str, runs.seeds)), ", ".join(runs.code_versions()) or NOT_RUN
    return f"""# {title}

Generated from result files by `python -m studies.make_reports`; not edited by hand.

**Question.** {question}

**Setting.** {toy_line(runs)}
Backbone `texton`: fixed filters, no pretrained weights. Seeds {seeds} for heads, clustering and networks;
the data are the same for all. Tables give mean ± sample standard deviation over the seeds, in percent.
Settings are fixed beforehand (the demo's, developed on another toy city); none was chosen among the results
below. Ground truth is read by evaluation only.

- reproduce: `python -m studies.make_reports --only {report} --seeds {seeds.replace(",", "")}`
- code: {versions}
- machine: {runs.machine()}"""


def toy_line(runs: ToyRuns) -> str:
    """Return a sentence on the size of the toy data set."""
    path = runs.data / "toy_streets.json"
    if not path.is_file():
        return "Toy streets (not rendered yet)."
    size = read_json(path, "render the toy streets again")["parameters"]
    images = runs.data / "leftImg8bit"
    train, val = (len(list((images / split).glob("*/*.png"))) for split in ("train", "val"))
    return (
        f"Toy streets (`cups/data/toy_streets.py`, data seed {size['seed']}): {train} training and {val} "
        f"validation frames, of different cities, {size['height']}x{size['width']} pixels."
    )


def protocols(runs: ToyRuns, files: Iterable[str]) -> str:
    """Return the protocol lines of evaluations, each once."""
    lines = dict.fromkeys(result.protocol for file in files for result in runs.results(file).values())
    return "\n".join(f"- {line}." for line in lines) or f"- {NOT_RUN}."


def fact(values: Mapping[int, bool | None]) -> str:
    """Return what provenance says over the seeds: "no" only if all seeds say so."""
    if not values:
        return NOT_RUN
    if True in values.values():
        return "yes"
    return "unknown" if None in values.values() else "no"
