"""One checkpoint on every data set that is there: from a folder of data sets to one table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from cups.builders.evaluation import (
    EvaluatedNetwork,
    build_validation_data,
    given_checkpoint,
    load_for_evaluation,
    panoptic_protocol,
)
from cups.builders.inference import prediction_settings
from cups.builders.run_directory import run_directory
from cups.builders.scoring import score_network
from cups.data import CityscapesPanopticValidation
from cups.errors import UserError
from cups.evaluation.results import Result, read_results
from cups.evaluation.set_table import ScoredSet, sets_report, write_sets
from cups.io.files import as_stored, file_sha256, read_json, write_json
from cups.io.model_folder import weights_file
from cups.io.shipped import find_config
from cups.io.yaml_files import load_yaml
from cups.set_files import SHIPPED, SetFile, find_set, shipped_names

log = logging.getLogger(__name__)
ConfigOf = Callable[[Path | None, dict[str, Any]], CfgNode]
"""Returns the configuration of a YAML file, or of none, with further keys; the command line wins."""
SETTINGS = "settings.json"


def sets_below(folder: Path, only: Sequence[str] = ()) -> list[SetFile]:
    """Return the data sets that lie below a folder: shipped ones, and those that its YAML files describe.

    Args:
        folder: each set lies in its `folder` there.
        only: names; empty for all that are there.

    Raises:
        UserError: a name that no set has, or that is not there; no set at all.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder that the data sets lie in")
    own = [find_set(path) for path in sorted(folder.glob("*.y*ml")) if _describes(path)]
    known = {one.name: one for one in (*map(find_set, shipped_names()), *own)}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise UserError(f"`only` {unknown[0]}: no such data set; choose from {', '.join(sorted(known))}")
    asked = [one for one in known.values() if not only or one.name in only]
    there = [one for one in asked if (folder / one.folder).is_dir()]
    missing = [one for one in asked if one not in there]
    if not there or (only and missing):
        raise UserError(
            f"{folder / missing[0].folder}: no such folder ({missing[0].title}); the data sets lie in "
            f"{', '.join(sorted({one.folder for one in known.values()}))}, see docs/data.md"
        )
    for one in missing:
        log.info("%s: not there (%s)", one.title, folder / one.folder)
    return sorted(there, key=lambda one: not one.published)


def _describes(path: Path) -> bool:
    """Return whether a YAML file describes a data set; class files lie there too."""
    content = load_yaml(path, "mend it")
    return isinstance(content, dict) and "layout" in content


def set_config(described: SetFile, folder: Path, config_of: ConfigOf) -> CfgNode:
    """Return the configuration of a data set: `val_{name}.yaml`, if there is one, and where the set lies."""
    name = Path(f"val_{described.name.replace('-', '_')}.yaml")
    found = find_config(name)
    dataset = described.name if described.path.parent == SHIPPED else str(described.path)
    where = {"DATA.DATASET": dataset, "DATA.ROOT_VAL": str(folder / described.folder)}
    return config_of(found if found.is_file() else None, where)


@dataclass
class _Network:
    """The network of the last data set, which the next one takes too unless its keys differ."""

    keys: str = ""
    loaded: EvaluatedNetwork | None = None

    def of(self, config: CfgNode) -> EvaluatedNetwork:
        """Return the network that a configuration wants."""
        validation = config.VALIDATION
        keys = f"{config.MODEL} {validation.USE_TTA} {validation.USE_CRF} {config.SYSTEM.ACCELERATOR}"
        if self.loaded is None or keys != self.keys:
            self.keys, self.loaded = keys, load_for_evaluation(config)
        return self.loaded


def evaluate_data_sets(
    config_of: ConfigOf, folder: Path, output: Path | None = None, only: Sequence[str] = ()
) -> tuple[str, list[str]]:
    """Score a checkpoint on each data set below a folder; return the report, and a line for each fault.

    `{output}/{name}/results.*` hold the results of each set, `{output}/data_sets.*` the table. A set that was
    scored before, by the same network on the same frames, is not scored again. One whose files are incomplete
    is left out, and the table says why.

    Args:
        config_of: makes the configuration of a set.
        folder: of the data sets.
        output: None is the folder that the configuration names.
        only: names of sets; empty for all that are there.

    Raises:
        UserError: no data set, no checkpoint.
    """
    sets = sets_below(folder, only)
    log.info("%s: %s", folder, ", ".join(one.title for one in sets))
    network, rows, faults = _Network(), [], []
    for described in sets:
        config = set_config(described, folder, config_of)
        if not weights_file(checkpoint := given_checkpoint(config)).is_file():
            raise UserError(f"{checkpoint}: no such file; give a checkpoint with `checkpoint`")
        output = output or run_directory(config, "val")
        try:
            data = build_validation_data(config)
            protocol = str(panoptic_protocol(config))
        except UserError as error:
            log.warning("%s: left out: %s", described.title, error)
            faults.append(f"{described.title}: {error}")
            rows.append(ScoredSet(described, "", 0, None, (), str(error)))
        else:
            results = _score(config, data, network, output / described.name)
            expected = getattr(data, "expected", described.frames.get(config.DATA.VAL_SPLIT))
            expected = None if config.DATA.VAL_FRAMES else expected
            rows.append(ScoredSet(described, protocol, len(data), expected, tuple(results)))
        write_sets(output / "data_sets", rows)
    assert output is not None
    log.info("table: %s", output / "data_sets.md")
    return sets_report(rows), faults


def _score(
    config: CfgNode, data: CityscapesPanopticValidation, network: _Network, output: Path
) -> list[Result]:
    """Return the results of one set: those that are there if they are of the same run, else new ones."""
    classes, validation = data.classes, config.VALIDATION
    settings = as_stored(
        prediction_settings(config)
        | {
            "description": file_sha256(find_set(config.DATA.DATASET).path),
            "classes": [classes.names, classes.things, classes.from_id.tolist()],
            "scores": [
                validation.ADHERE_THING_STUFF, validation.VOID_RULE, validation.SEMSEG_CENTER_CROP_SIZE,
            ],
            "frames": len(data),
        }
    )  # fmt: skip
    stored, results = output / SETTINGS, output / "results.json"
    if stored.is_file() and results.is_file() and read_json(stored, "remove it") == settings:
        log.info("%s: scored before", output)
        return read_results(results)
    stored.unlink(missing_ok=True)
    scored = score_network(network.of(config), data, config, output)
    write_json(stored, settings)
    return scored
