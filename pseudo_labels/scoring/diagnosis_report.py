"""The diagnosis of a folder in the CUPS format as numbers, Markdown and a map of offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from cups.errors import as_flags
from cups.io.files import atomic_write
from cups.io.markdown import markdown_table, percent
from cups.io.provenance import code_version
from pseudo_labels.scoring.alignment import QUADRANTS, EdgeFit
from pseudo_labels.scoring.diagnosis_findings import Finding
from pseudo_labels.scoring.diagnosis_frames import FolderSums
from pseudo_labels.settings.scoring import DiagnosisSettings

SHOWN_CLASSES = 40
SHOWN_FRAMES = 5


def summary(settings: DiagnosisSettings, findings: Sequence[Finding], sums: FolderSums) -> dict[str, Any]:
    """Return everything as JSON-ready data."""
    used = np.flatnonzero(sums.pixels)
    return {
        "folder": str(settings.cups_dir),
        "code_version": code_version(),
        "settings": {
            field.name: None if (value := getattr(settings, field.name)) is None else str(value)
            for field in fields(settings)
        },
        "defects": sum(finding.level == "defect" for finding in findings),
        "findings": [
            {"level": f.level, "check": f.check, "message": as_flags(f.message), "frames": list(f.frames)}
            for f in findings
        ],
        "frames": sums.frames,
        "frames_without_instance": sums.without_instance,
        "instances": sums.instances,
        "label_sizes": [[*size, count] for size, count in sorted(sums.sizes.items())],
        "alignment": [_alignment(fit) for fit in sums.fits.values()],
        "classes": [
            {
                "id": int(index),
                "pixels": int(sums.pixels[index]),
                "inside_instances": int(sums.inside[index]),
                "images": int(sums.images[index]),
            }
            for index in used
        ],
    }


def _alignment(fit: EdgeFit) -> dict[str, Any]:
    peaks = {"all": fit.peak(), **{name: fit.peak(index) for index, name in enumerate(QUADRANTS)}}
    return {"size": list(fit.size), **{name: vars(peak) for name, peak in peaks.items()}}


def report(content: dict[str, Any]) -> str:
    """Return the Markdown report of a `summary`."""
    defects = content["defects"]
    verdict = f"{defects} defect{'s' if defects > 1 else ''}" if defects else "no defects"
    sizes = ", ".join(f"{height}x{width} ({count})" for height, width, count in content["label_sizes"])
    parts = [
        f"# {content['folder']}: {verdict}",
        f"{content['frames']} images, {content['instances']} instances, "
        f"{content['frames_without_instance']} images without one. Label files: {sizes or 'none readable'}.",
    ]
    if content["findings"]:
        rows = [
            (f["level"], f["check"], len(f["frames"]) or "", _shorten(f["frames"]), f["message"])
            for f in sorted(content["findings"], key=lambda finding: finding["level"])
        ]
        parts.append(markdown_table(rows, ("level", "check", "images", "which", "what")))
    for fit in content["alignment"]:
        parts.append(_alignment_table(fit))
    parts.append(_class_table(content["classes"]))
    return "\n\n".join(parts)


def _shorten(frames: Sequence[str]) -> str:
    return ", ".join(frames[:SHOWN_FRAMES]) + (", ..." if len(frames) > SHOWN_FRAMES else "")


def _alignment_table(fit: dict[str, Any]) -> str:
    rows = [
        (
            name,
            f"{fit[name]['right']:+d}",
            f"{fit[name]['down']:+d}",
            f"{fit[name]['score']:.2f}",
            f"{fit[name]['at_zero']:.2f}",
            f"{fit[name]['clearness']:.0f}",
        )
        for name in ("all", *QUADRANTS)
    ]
    height, width = fit["size"]
    text = (
        f"Best offset of label borders on image edges, in pixels of {height}x{width}; strength 0 is that "
        "of the surroundings, 1 twice that:"
    )
    columns = ("borders", "right", "down", "edges there", "edges as stored", "clearness")
    return f"{text}\n\n{markdown_table(rows, columns)}"


def _class_table(classes: Sequence[dict[str, int]]) -> str:
    total = max(1, sum(row["pixels"] for row in classes))
    largest = sorted(classes, key=lambda row: -row["pixels"])[:SHOWN_CLASSES]
    rows = [
        (
            row["id"],
            percent(row["pixels"] / total),
            percent(row["inside_instances"] / max(1, row["pixels"])),
            row["images"],
        )
        for row in largest
    ]
    more = len(classes) - len(largest)
    table = markdown_table(rows, ("pseudo-class", "% of pixels", "% inside instances", "images"))
    return f"{table}\n\n{more} smaller ones are in the JSON." if more else table


def write_offset_map(path: Path, fits: Sequence[EdgeFit]) -> None:
    """Draw the edge strength under the borders for every offset, one panel per image size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(fits), figsize=(5.4 * len(fits), 4.6), squeeze=False)
    for axis, fit in zip(axes[0], fits, strict=True):
        scores, peak = fit.scores(), fit.peak()
        reach = len(scores) // 2 + 0.5
        picture = axis.imshow(scores, cmap="magma", extent=(-reach, reach, reach, -reach))
        axis.axhline(0, color="white", linewidth=0.5, alpha=0.5)
        axis.axvline(0, color="white", linewidth=0.5, alpha=0.5)
        axis.plot(peak.right, peak.down, "o", markersize=14, markerfacecolor="none", color="#35c9a5")
        axis.set_title(f"best offset: {peak.right:+d} right, {peak.down:+d} down", fontsize=11)
        axis.set_xlabel(f"labels moved right (pixels of {fit.size[0]}x{fit.size[1]})")
        axis.set_ylabel("labels moved down")
        figure.colorbar(picture, ax=axis, label="edge strength under borders", fraction=0.046)
    figure.tight_layout()
    atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=130))
    plt.close(figure)
