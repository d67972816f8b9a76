"""`docs/configuration.md`, written from the rows of the configuration and the groups of flags."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from cups.config import EXPORT_FLAGS, STAGE2_FLAGS, STAGE3_FLAGS, TRAIN_FLAGS, VAL_FLAGS
from cups.config_keys import SECTIONS
from cups.configuration import augmentation, data, model, self_training, system, training, validation

MODULES = (system, model, data, training, self_training, augmentation, validation)
SCRIPTS = {
    "train.py": TRAIN_FLAGS,
    "train_hybrid.py": STAGE2_FLAGS,
    "train_self.py": STAGE3_FLAGS,
    "val.py": VAL_FLAGS,
    "scripts/cups_inference_val.py": EXPORT_FLAGS,
}
"""Entry scripts, and the groups of flags that they read."""

INTRODUCTION = """# Configuration

This file is generated: `python -m cups.config_page > docs/configuration.md`.

One tree of keys serves training and evaluation. Its values come in five layers, of which later ones win:

1. **Defaults**, listed below.
2. **YAML**, `--experiment_config_file FILE` (see `configs/`). `_BASE_` names a file, relative to this one,
   whose values come first; of a list of files, later ones win.
3. **`KEY VALUE` pairs** on the command line: `python train.py TRAINING.STEPS 2000 DATA.SCALE 0.5`.
4. **Flags**, short forms of common keys.
5. **`CUPS_OPTS`**, an environment variable with `KEY VALUE` pairs, for launch scripts and schedulers whose
   command line is fixed: `export CUPS_OPTS="SYSTEM.NUM_WORKERS 16"`. Each run that finds it says so in its
   log.

Unknown keys and values that are not allowed are refused by name. `--print_config` prints the resolved tree
as YAML and stops; a run leaves the same text in its folder as `config.yaml`. Either can be given back as a
config file.

`MODEL.OVERRIDES` changes keys of Detectron2's own tree. In YAML it is a mapping, nested or with dotted keys;
the list form KEY, value, KEY, value, ... is read as well, and is what resolved configs and checkpoints hold:

```yaml
MODEL:
  OVERRIDES:
    MODEL.PANOPTIC_FPN.COMBINE.THINGS_FIRST: True
    MODEL.FPN.OUT_CHANNELS: 64
```
"""


def document() -> str:
    """Return the text of `docs/configuration.md`."""
    return "\n".join([INTRODUCTION, *_flags(), *_sections()])


def _sections() -> Iterator[str]:
    for module, (section, rows) in zip(MODULES, SECTIONS.items(), strict=True):
        _, _, about = (module.__doc__ or "").strip().partition(f"Section {section}: ")
        yield f"\n## {section}\n"
        yield f"{about[0].upper()}{about[1:]}\n"
        yield from _table(
            ("Key", "Default", "Allowed", "Meaning"),
            (
                (f"`{name}`", _shown(key.default), key.check.allowed, key.meaning)
                for name, key in rows.items()
            ),
        )


def _flags() -> Iterator[str]:
    yield "## Flags\n"
    yield "A script knows the flags that it reads, and refuses others.\n"
    rows = []
    for flag in dict.fromkeys(flag for groups in SCRIPTS.values() for group in groups for flag in group):
        readers = [name for name, groups in SCRIPTS.items() if any(flag in group for group in groups)]
        where = "all" if len(readers) == len(SCRIPTS) else ", ".join(f"`{name}`" for name in readers)
        keys = ", ".join(f"`{key}`" for key in flag.keys)
        keys += "" if flag.constant is None else f" {flag.constant}"
        rows.append((f"`--{flag.name}`", keys, flag.help, where))
    yield from _table(("Flag", "Sets", "Meaning", "Of"), iter(rows))


def _table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _shown(default: Any) -> str:
    text = str(default)
    if isinstance(default, tuple) and len(text) > 60:
        text = f"{default[0]}, {default[1]}, ..., {default[-1]}"
    return f"`{text}`"


if __name__ == "__main__":
    sys.stdout.write(document())
