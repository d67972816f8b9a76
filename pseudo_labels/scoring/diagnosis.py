"""Checks of a folder in the CUPS format, in one pass over its files."""

from __future__ import annotations

from pathlib import Path

from torch.utils.data import DataLoader
from tqdm import tqdm

from cups.data.image_finder import ImageFinder
from cups.errors import UserError
from cups.io.children import ignore_stop_signals
from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.files import write_json, write_text
from pseudo_labels.scoring.diagnosis_findings import (
    Finding,
    alignment_findings,
    coverage_findings,
    format_findings,
    frame_findings,
    read_statistics,
    split_findings,
    statistics_findings,
)
from pseudo_labels.scoring.diagnosis_frames import DiagnosedFrames, FolderSums
from pseudo_labels.scoring.diagnosis_report import report, summary, write_offset_map
from pseudo_labels.settings.scoring import DiagnosisSettings


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


def diagnose(settings: DiagnosisSettings) -> tuple[list[Finding], FolderSums]:
    """Run all checks: one pass over the files, nothing kept but sums.

    Raises:
        UserError: no such folder, no labels in it, or no images to compare with.
    """
    folder = settings.cups_dir
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; run pseudo_labels/convert_to_cups_format.py")
    stems, find_image = labelled_stems(folder), ImageFinder(settings.data_root, folder)
    findings = coverage_findings(settings.data_root, settings.split, stems) if settings.split else []
    statistics, problems = read_statistics(folder)
    num_classes = None if statistics is None else len(statistics[0])
    findings += problems + format_findings(folder, num_classes, len(stems))
    reach = 0.0 if settings.no_alignment else settings.reach
    chosen = stems[: settings.max_images]
    data = DiagnosedFrames(folder, chosen, num_classes, find_image, settings.scale, reach)
    sums = FolderSums()
    for frame in tqdm(
        DataLoader(
            data, batch_size=None, num_workers=settings.num_workers, worker_init_fn=ignore_stop_signals
        ),
        desc="diagnose",
        unit="img",
    ):
        sums.add(frame, settings.tolerance)
    findings += frame_findings(sums)
    if statistics is not None:
        complete = len(chosen) == len(stems)
        findings += statistics_findings(statistics, sums, complete)
        findings += split_findings(folder, statistics, settings.thing_stuff_threshold)
    return [*findings, *alignment_findings(sums, settings.tolerance)], sums


def diagnose_folder(settings: DiagnosisSettings) -> tuple[str, int]:
    """Run all checks and write report, numbers and map; returns the report and the number of defects.

    Raises:
        UserError: no such folder, no labels in it, or no images to compare with.
    """
    findings, sums = diagnose(settings)
    content = summary(settings, findings, sums)
    folder = settings.cups_dir.resolve()
    stem = settings.results or folder.parent / "evaluation" / f"{folder.name}_diagnosis"
    text = report(content)
    write_text(Path(f"{stem}.md"), text + "\n")
    write_json(Path(f"{stem}.json"), content)
    if sums.fits:
        write_offset_map(Path(f"{stem}.png"), list(sums.fits.values()))
    return f"{text}\nreport: {stem}.md, .json{', .png' if sums.fits else ''}", content["defects"]
