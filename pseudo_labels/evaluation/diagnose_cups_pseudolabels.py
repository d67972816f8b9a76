"""Look for defects in a folder in the CUPS format before training on it: exit code 1 if there are any.

Checks that every image has its semantic and instance file, that they can be read, fit each other and their
image, that ids are in range, that the `.pt` statistics agree with the files and give things and stuff, and
that label borders lie on image edges: the mean edge strength under the borders, moved by every offset, must
be largest where they are. Writes a report (.md), all numbers (.json) and a map of the offsets (.png). Reads
no ground truth.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader
from tqdm import tqdm

from cups.data.pseudo_label_dataset import ImageFinder
from cups.errors import UserError, run_main
from cups.io.file_names import IMAGE_SUFFIX, INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.files import atomic_write, write_json
from cups.io.markdown import markdown_table, percent
from cups.io.provenance import code_version, read_provenance
from pseudo_labels.algorithms.cups_format import FORMAT_FILE
from pseudo_labels.scoring.alignment import QUADRANTS, EdgeFit
from pseudo_labels.scoring.diagnosis import (
    DiagnosedFrames,
    Finding,
    FolderSums,
    alignment_findings,
    frame_findings,
    read_statistics,
    statistics_findings,
)

SHOWN_CLASSES = 40
SHOWN_FRAMES = 5


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--cups_dir", type=Path, required=True, help="folder in the CUPS format")
    parser.add_argument(
        "--data_root", type=Path, required=True, help="Cityscapes root, or a plain folder of images"
    )
    parser.add_argument("--split", help="split whose images must all have labels")
    parser.add_argument("--scale", type=float, default=0.625, help="DATA.SCALE of the training")
    parser.add_argument(
        "--thing_stuff_threshold", type=float, default=0.08, help="DATA.THING_STUFF_THRESHOLD of the training"
    )
    parser.add_argument("--reach", type=float, default=0.25, help="largest offset tried, share of the height")
    parser.add_argument("--tolerance", type=float, default=0.01, help="offset allowed, share of the height")
    parser.add_argument("--no_alignment", action="store_true", help="do not compare borders with edges")
    parser.add_argument("--max_images", type=int, help="use only the first N images")
    parser.add_argument("--num_workers", type=int, default=0, help="reading processes")
    parser.add_argument(
        "--results", type=Path, help="path without suffix (default: evaluation/NAME_diagnosis beside it)"
    )
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse impossible values.

    Raises:
        UserError: a flag out of range or a missing folder.
    """
    if not args.cups_dir.is_dir():
        raise UserError(f"{args.cups_dir}: no such folder; run pseudo_labels/convert_to_cups_format.py")
    if not 0 < args.scale <= 8:
        raise UserError(f"--scale {args.scale}: must be above 0 and at most 8")
    if not 0 < args.reach <= 1:
        raise UserError(f"--reach {args.reach}: must be above 0 and at most 1")
    if not 0 <= args.tolerance < args.reach:
        raise UserError(f"--tolerance {args.tolerance}: must be at least 0 and below --reach {args.reach}")
    if args.max_images is not None and args.max_images < 1:
        raise UserError(f"--max_images {args.max_images}: must be at least 1")


def labelled_stems(folder: Path) -> list[str]:
    """Return the frames that have a semantic or an instance file.

    Raises:
        UserError: there is none.
    """
    stems = {
        path.name[: -len(suffix)]
        for suffix in (SEMANTIC_SUFFIX, INSTANCE_SUFFIX)
        for path in folder.glob(f"*{suffix}")
    }
    if not stems:
        raise UserError(f"{folder}: holds no *{SEMANTIC_SUFFIX}; run pseudo_labels/convert_to_cups_format.py")
    return sorted(stems)


def coverage_findings(root: Path, split: str, stems: Sequence[str]) -> list[Finding]:
    """Return the images of a split that have no labels.

    Raises:
        UserError: no such split.
    """
    images = sorted((root / "leftImg8bit" / split).glob(f"*/*{IMAGE_SUFFIX}"))
    if not images:
        raise UserError(f"{root / 'leftImg8bit' / split}: no images; check --data_root and --split")
    have = set(stems)
    missing = tuple(stem for path in images if (stem := path.name[: -len(IMAGE_SUFFIX)]) not in have)
    if not missing:
        return []
    text = f"{len(missing)} of {len(images)} images of {split} have no labels; convert that split again"
    return [Finding("defect", "pairs", text, missing)]


def format_findings(folder: Path, num_classes: int | None, num_frames: int) -> list[Finding]:
    """Compare `format.json` with the statistics and the files; say where labels come from."""
    findings = []
    path = folder / FORMAT_FILE
    try:
        content = json.loads(path.read_text()) if path.is_file() else None
        told = content and (content["num_pseudo_classes"], content["frames"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        told = None
        findings.append(Finding("defect", "format", f"{FORMAT_FILE} is damaged; convert again"))
    if told and num_classes is not None and told != (num_classes, num_frames):
        text = f"{FORMAT_FILE} tells of {told[0]} pseudo-classes and {told[1]} frames, the folder has "
        findings.append(
            Finding("defect", "format", f"{text}{num_classes} and {num_frames}; convert again to its end")
        )
    provenance = read_provenance(folder)
    if provenance is None or provenance.get("uses_ground_truth") is not False:
        fact = (
            "is unknown" if provenance is None or provenance.get("uses_ground_truth") is None else "was used"
        )
        findings.append(Finding("note", "provenance", f"whether ground truth was used: it {fact}"))
    return findings


def diagnose(args: argparse.Namespace) -> tuple[list[Finding], FolderSums]:
    """Run all checks: one pass over the files, nothing kept but sums."""
    stems, find_image = labelled_stems(args.cups_dir), ImageFinder(args.data_root)
    findings = coverage_findings(args.data_root, args.split, stems) if args.split else []
    statistics, problems = read_statistics(args.cups_dir)
    num_classes = None if statistics is None else len(statistics[0])
    findings += problems + format_findings(args.cups_dir, num_classes, len(stems))
    reach = 0.0 if args.no_alignment else args.reach
    chosen = stems[: args.max_images]
    data = DiagnosedFrames(args.cups_dir, chosen, num_classes, find_image, args.scale, reach)
    sums = FolderSums()
    for frame in tqdm(
        DataLoader(data, batch_size=None, num_workers=args.num_workers), desc="diagnose", unit="img"
    ):
        sums.add(frame, args.tolerance)
    findings += frame_findings(sums)
    if statistics is not None:
        complete = len(chosen) == len(stems)
        findings += statistics_findings(statistics, sums, args.thing_stuff_threshold, complete)
    return [*findings, *alignment_findings(sums, args.tolerance)], sums


def summary(args: argparse.Namespace, findings: Sequence[Finding], sums: FolderSums) -> dict[str, Any]:
    """Return everything as JSON-ready data."""
    used = np.flatnonzero(sums.pixels)
    return {
        "folder": str(args.cups_dir),
        "code_version": code_version(),
        "settings": {key: value if value is None else str(value) for key, value in vars(args).items()},
        "defects": sum(finding.level == "defect" for finding in findings),
        "findings": [
            {"level": f.level, "check": f.check, "message": f.message, "frames": list(f.frames)}
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the diagnosis; 1 if there is a defect."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    check_arguments(args)
    findings, sums = diagnose(args)
    content = summary(args, findings, sums)
    folder = args.cups_dir.resolve()
    stem = args.results or folder.parent / "evaluation" / f"{folder.name}_diagnosis"
    text = report(content)
    atomic_write(Path(f"{stem}.md"), lambda temporary: temporary.write_text(text + "\n"))
    write_json(Path(f"{stem}.json"), content)
    if sums.fits:
        write_offset_map(Path(f"{stem}.png"), list(sums.fits.values()))
    print(text)
    print(f"report: {stem}.md, .json{', .png' if sums.fits else ''}")
    return 1 if content["defects"] else 0


if __name__ == "__main__":
    run_main(main)
