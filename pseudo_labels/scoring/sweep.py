"""The sweep of instance splitting: tables of every frame, then scores, ranks and files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cups.errors import UserError
from cups.io.files import write_text
from cups.io.fingerprint import digest_of
from cups.io.provenance import code_version, describe_input
from cups.metrics.protocol import Protocol
from cups.taxonomy import class_set
from pseudo_labels.inputs.outlines import classes_have_names, decide, depth_source
from pseudo_labels.scoring.instance_sweep import Configuration, FrameTables, SweepFrame, score_tables
from pseudo_labels.scoring.sweep_report import (
    MATCHING,
    note,
    ranked_rows,
    report,
    write_heat_map,
    write_numbers,
)
from pseudo_labels.settings.groups import ThingChoice
from pseudo_labels.settings.outlines import AREA_GRID, LEAST_AREA, LINEAR_BASELINE, LINEAR_GRID, OUTLINES
from pseudo_labels.settings.scoring import SweepRun, SweepSettings, SweptImages
from pseudo_labels.steps.flags import settings_of
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import number_of_classes
from pseudo_labels.steps.options import ShardRun
from pseudo_labels.steps.step import Step, is_complete, run_step

SCRIPT = "sweep_k50_spidepth"
TABLES = "tables"
ThingFinder = Callable[[FrameSource, Folder, ThingChoice, ShardRun, str], tuple[int, ...]]
"""Frames, semantics, what the user says of things, run, depth folder -> thing classes."""


def default_of(settings: SweepSettings, source: str) -> Configuration:
    """Return what `generate_depth_guided_instances.py` does with this depth unless told otherwise."""
    assert settings.proposals is not None, "decided settings"
    step = OUTLINES[source].step(settings.edge, settings.proposals)
    return Configuration(step, LEAST_AREA[settings.edge])


def configurations_of(settings: SweepSettings, source: str) -> tuple[Configuration, ...]:
    """Return the grid, then the baseline.

    Args:
        settings: decided, see `Cutting.for_depth`.
        source: kind of depth (of `OUTLINES`).
    """
    own = settings.grad_thresholds is not None or settings.min_areas is not None
    if settings.edge == "linear" and not own:
        grid = [Configuration(step, area) for step, areas in LINEAR_GRID.items() for area in areas]
        baseline: Sequence[int] = (LINEAR_BASELINE,)
    else:
        steps = LINEAR_GRID if settings.edge == "linear" else OUTLINES[source].grid
        thresholds, baseline = settings.grad_thresholds or tuple(steps), settings.min_areas or AREA_GRID
        grid = [Configuration(step, area) for step in sorted(thresholds) for area in sorted(baseline)]
        default = default_of(settings, source)
        if not own and default not in grid:
            grid.append(default)
    if not settings.no_cc_baseline:
        grid += [Configuration(None, area) for area in sorted(baseline)]
    return tuple(grid)


def name_of(settings: SweepSettings, source: str, named: bool) -> str:
    """Return the name of the default folder, so that every grid has one of its own.

    It tells semantics and depth, and of a sweep that is not the default one the settings that differ, with a
    digest of their values.

    Args:
        settings: decided, see `Cutting.for_depth`.
        source: kind of depth (of `OUTLINES`).
        named: whether the semantic classes have names.
    """
    semantics, depth = settings.semantic_subdir, settings.depth_subdir
    # The semantics say how many classes they have: to repeat it makes no other sweep.
    count = settings.num_semantic_classes
    plain = SweepSettings(semantic_subdir=semantics, depth_subdir=depth, num_semantic_classes=count)
    defaults = settings_of(plain.for_depth(source, named))
    own = {name: value for name, value in settings_of(settings).items() if value != defaults[name]}
    for grid in {"grad_thresholds", "min_areas"} & own.keys():
        own[grid] = sorted(own[grid])
    parts = [semantics, depth, *own, *([digest_of(own)[:8]] if own else [])]
    return "+".join(parts)


def sweep(source: FrameSource, settings: SweepSettings, run: SweepRun, things_of: ThingFinder) -> str | None:
    """Count all configurations in all frames and, once all shards are through, score them and write files.

    Args:
        things_of: finds the thing classes of semantics (`generators.thing_stuff.required_things`).

    Returns:
        The report, None before the last shard.

    Raises:
        UserError: missing inputs, no thing/stuff split, or a folder with tables of another run.
    """
    root = run.root(source)
    semantics = Folder(root, settings.semantic_subdir, ".png")
    source = source.settled(semantics.directory) if isinstance(source, SweptImages) else source
    frames = source.frames()
    mine = run.part(frames)
    semantics.require(mine, "generate the semantics of this split first, or check `semantic_subdir`")
    depths = Folder(root, settings.depth_subdir, ".npy")
    depths.require(mine, "run pseudo_labels/generate_depth_spidepth.py first, or check `depth_subdir`")
    count = number_of_classes(semantics.directory, settings.num_semantic_classes)
    if count is None:
        raise UserError(f"`num_semantic_classes`: missing; {semantics.directory} does not tell it")
    things = things_of(source, semantics, settings, run, settings.depth_subdir)
    if max(things, default=0) >= count:
        raise UserError(f"`thing_classes`: {max(things)} is no pseudo-class, there are {count}")
    settings = decide(settings, semantics.directory, depths.directory)
    source_of_depth = depth_source(depths.directory)
    name = name_of(settings, source_of_depth, classes_have_names(semantics.directory))
    folder = Folder(settings.output_dir or root / "sweeps" / name, TABLES, ".npz")
    cityscapes = source.image_folder.parent
    process = SweepFrame(
        cityscapes,
        semantics,
        depths,
        folder,
        configurations_of(settings, source_of_depth),
        things,
        settings,
        count,
        settings.num_classes,
    )
    inputs = (semantics.directory, depths.directory, cityscapes / "gtFine")
    recorded = settings.with_things(things)
    read = (semantics, depths, cityscapes / "gtFine")
    step = Step(SCRIPT, recorded, process, [folder], inputs=read, uses_ground_truth=True)
    run_step(source, step, run)
    if not is_complete(frames, [folder], run):
        return None
    done, default = [frame for frame in frames if folder.exists(frame)], default_of(settings, source_of_depth)
    return publish(done, process, default, source.split, inputs)


def publish(
    frames: Sequence[Frame], process: SweepFrame, default: Configuration, split: str, inputs: Sequence[Path]
) -> str:
    """Score the tables of the frames and write JSON, CSV, heat map and Markdown; returns the report.

    Raises:
        UserError: no frame could be read.
    """
    folder, classes = process.output, class_set(process.num_classes)
    if not frames:
        raise UserError(f"{folder.directory}: no frame could be read; see failures.json there")
    tables = [FrameTables.read(folder.path(frame)) for frame in frames]
    matching, scores = score_tables(tables, process.things, classes)
    rows = ranked_rows(process.configurations, scores)
    fitted = f"the semantic maps of the {split} images scored"
    protocol = Protocol(f"pseudo-labels-{process.num_classes}", process.num_classes, fitted_on=fitted)
    title = f"Depth-guided splitting: {process.semantics.name}, {process.depths.name}"
    text = report(rows, default, protocol, len(frames), split, title)
    content = {
        "note": note(default),
        "matching": MATCHING,
        "protocol": str(protocol),
        "split": split,
        "frames": len(frames),
        "assignment": matching.tolist(),
        "label_free_default": {"grad_threshold": default.grad_threshold, "min_area": default.min_area},
        "uses_ground_truth": True,
        "code_version": code_version(),
        "inputs": [describe_input(path) for path in inputs],
    }
    target = folder.root
    write_numbers(target, rows, content)
    write_text(target / "sweep.md", text + "\n")
    write_heat_map(target / "sweep.png", rows, title, default)
    return f"{text}\nresults: {target}/sweep.json, .csv, .md, .png"
