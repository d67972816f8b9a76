"""Tables and curves of overclustering for many k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cups.io.files import atomic_write
from cups.io.markdown import markdown_table, percent
from pseudo_labels.scoring.overclusters import ClusterScore
from pseudo_labels.settings.overclusters import AnalysisSettings

TITLES = {"one-to-one": "one-to-one", "joint": "one-to-one, rest best", "many-to-one": "many-to-one"}


def report(settings: AnalysisSettings, split: str, scores: Sequence[ClusterScore], num_images: int) -> str:
    """Return the Markdown report on the images of a split."""
    fits = list(scores[0].miou)
    columns = ["", *(f"{TITLES[m]} [{fit}]" for fit in fits for m in TITLES), "classes", "used"]
    columns += ["purity", "weighted purity", "inertia"]
    rows = [
        (
            s.name,
            *(percent(s.miou[fit][matching]) for fit in fits for matching in TITLES),
            len(s.recovered),
            f"{s.used}/{s.k}",
            percent(s.purity),
            percent(s.purity_weighted),
            "–" if math.isnan(s.inertia) else f"{s.inertia:.3f}",  # noqa: RUF001 - the dash is meant
        )
        for s in scores
    ]
    what = f"{settings.features} pooled over regions" if settings.regions else settings.features
    recovered = f"IoU above {percent(settings.recovered_iou)} %, many-to-one [{fits[-1]}]"
    intro = (
        f"mIoU (%) over {settings.num_classes} classes of k-means on {what}, fitted on {settings.fit_split} "
        f"and measured on the {num_images} images of {split}; in brackets the images that the matching of "
        "clusters to classes was fitted on. One-to-one leaves all but one cluster per class void; with *rest "
        f"best* they take their best class. Classes: those recovered, {recovered}."
    )
    warning = "Uses ground truth, for analysis only: no label is made from it."
    if len(fits) == 1:
        warning += (
            " Matchings are fitted on the images they are scored on, which flatters large k; "
            "`--match_split train` fits them elsewhere."
        )
    parts = ["# How many clusters?", intro, warning, markdown_table(rows, columns), _recovered(scores)]
    return "\n\n".join(part for part in parts if part)


def _recovered(scores: Sequence[ClusterScore]) -> str:
    """Return which classes each row recovers that the row before did not, and which it loses."""
    lines: list[str] = []
    before: set[str] = set()
    for score in scores:
        now = set(score.recovered)
        names = ", ".join(name for name in score.recovered if name not in before)
        lost = ", ".join(sorted(before - now))
        text = f"new: {names or 'none'}" + (f"; lost: {lost}" if lost else "")
        lines.append(f"- {score.name}: {len(now)} classes; {text}")
        before = now
    return "Classes recovered, against the row above:\n\n" + "\n".join(lines)


def write_plot(path: Path, scores: Sequence[ClusterScore], num_classes: int) -> None:
    """Draw mIoU and purity over k beside the IoU of every class."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fits = list(scores[0].miou)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13, 5.6), width_ratios=(1, 1.15), layout="constrained"
    )
    _draw_curves(left, scores, fits)
    names = list(scores[0].iou[fits[-1]]["many-to-one"])
    values = np.array([[100 * s.iou[fits[-1]]["many-to-one"][name] for s in scores] for name in names])
    right.imshow(values, cmap="YlGnBu", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value > 55 else "#22303c"
        right.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8.5, color=color)
    right.set_yticks(range(len(names)), names)
    right.set_xticks(range(len(scores)), [s.name for s in scores])
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
    right.set_title(f"IoU (%), many-to-one matching fitted on {fits[-1]}, {num_classes} classes", fontsize=11)
    atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=140))
    plt.close(figure)


def _draw_curves(axis: Any, scores: Sequence[ClusterScore], fits: Sequence[str]) -> None:
    """Draw mIoU of each matching and purity over k; plain CAUSE as a level."""
    rows = [score for score in scores if not math.isnan(score.inertia)]
    plain = [score for score in scores if math.isnan(score.inertia)]
    ks = [score.k for score in rows]
    colors = {"one-to-one": "#b08bbb", "joint": "#e0853d", "many-to-one": "#1f6fb2"}
    for fit, style in zip(fits, ("-", "--"), strict=False):
        for matching, title in TITLES.items():
            label = f"mIoU, {title}" + (f", fitted on {fit}" if len(fits) > 1 else "")
            values = [100 * score.miou[fit][matching] for score in rows]
            axis.plot(ks, values, style, marker="o", markersize=4.5, color=colors[matching], label=label)
    axis.plot(ks, [100 * s.purity_weighted for s in rows], ":", color="#5a6672", label="weighted purity")
    for score in plain:
        level = 100 * score.miou[fits[-1]]["many-to-one"]
        axis.axhline(level, color="#1f6fb2", alpha=0.45, linewidth=1)
        axis.annotate("plain CAUSE, many-to-one", (ks[-1], level), (0, -11), textcoords="offset points",
                      ha="right", fontsize=8.5, color="#1f6fb2")  # fmt: skip
    axis.set_xscale("log")
    axis.set_xticks(ks, [str(k) for k in ks])
    axis.minorticks_off()
    axis.set_ylim(bottom=0)
    axis.set_xlabel("clusters k")
    axis.set_ylabel("%")
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8.5, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    axis.set_title("Clusters against classes", fontsize=11)
