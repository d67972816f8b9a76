"""All settings of Stage 1, and the command lines made of them."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import pseudo_labels
from cups.errors import UserError
from pseudo_labels import pipeline
from pseudo_labels.steps import frames, options
from pseudo_labels.steps.flags import Settings, flag, types_of, wrong_value

ROOT = Path(pseudo_labels.__file__).resolve().parents[1]
STAGE1 = ROOT / "pseudo_labels"
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for path in (*STAGE1.glob("*.py"), *(STAGE1 / "evaluation").glob("*.py"))
    if '\nif __name__ == "__main__":' in path.read_text()
)
PIPELINE = "pseudo_labels/pipeline.py"
"""Hands flags that it does not know itself to its steps."""
HEAVY = ("torch", "scipy", "sklearn", "pytorch_lightning", "detectron2", "matplotlib", "submitit")


def settings_classes() -> list[type]:
    """Return every settings class, those of the steps included."""
    names = [f"pseudo_labels.settings.{path.stem}" for path in sorted((STAGE1 / "settings").glob("[!_]*.py"))]
    modules = [frames, options, *map(import_module, names)]
    return [
        member
        for module in modules
        for member in vars(module).values()
        if inspect.isclass(member) and issubclass(member, Settings) and member.__module__ == module.__name__
    ]


CLASSES = settings_classes()


def attributes_read(tree: ast.AST) -> set[str]:
    """Return the names x of every `something.x` that is read."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def names_quoted(tree: ast.AST) -> set[str]:
    """Return every string that is no key of a dictionary: so `getattr` is told what to read."""
    keys = {id(key) for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys}
    strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in keys)
    return {node.value for node in strings if isinstance(node.value, str)}


@cache
def modules_outside() -> tuple[ast.Module, ...]:
    """Return the modules of Stage 1 that are not in settings/."""
    files = [path for path in STAGE1.rglob("*.py") if path.parent.name != "settings"]
    return tuple(ast.parse(path.read_text()) for path in files)


@cache
def read_outside() -> frozenset[str]:
    """Return the names that modules outside settings/ read, as attributes or quoted."""
    return frozenset().union(*(attributes_read(tree) | names_quoted(tree) for tree in modules_outside()))


@cache
def unpacked_outside() -> frozenset[str]:
    """Return the settings classes whose fields a module outside settings/ hands on, all by their names."""
    return frozenset(
        node.args[0].id
        for tree in modules_outside()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fields"
        if node.args and isinstance(node.args[0], ast.Name)
    )


@cache
def parameters_of_networks() -> frozenset[str]:
    """Return the parameters of all functions in refs/, which such fields are handed to."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "refs").rglob("*.py")]
    return frozenset(node.arg for tree in trees for node in ast.walk(tree) if isinstance(node, ast.arg))


def names_read(kind: type) -> set[str]:
    """Return the names of the fields of a class that something reads; checks do not count."""
    found = set(read_outside())
    for owner in kind.__mro__[:-1]:
        for node in ast.walk(ast.parse(inspect.getsource(owner))):
            if isinstance(node, ast.FunctionDef) and node.name != "__post_init__":
                found |= attributes_read(node)
        if owner.__name__ in unpacked_outside():
            found |= parameters_of_networks()
    return found


def test_settings_classes__are_found() -> None:
    names = {kind.__name__ for kind in CLASSES}
    assert {"FrameSource", "FrameRun", "InstanceSettings", "SweepSettings", "ThingStuffSettings"} <= names


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_settings__frozen_with_flags_that_say_what_they_mean(kind: Any) -> None:
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen, "use @dataclass(frozen=True)"
    for field in dataclasses.fields(kind):
        assert "decides" in field.metadata, f"{field.name}: make it by `flag`"
        assert field.metadata["meaning"] or field.metadata["hidden"], f"{field.name}: say what it means"


FREE = {"PipelineSettings.cityscapes_root", "PipelineSettings.output_root"}
"""Flags without any bound: paths that are handed on to the steps, "" where there is none."""


def unbounded(kind: Any) -> set[str]:
    """Return the flags of a class that take any number or any text."""
    hints, found = types_of(kind), set()
    for field in dataclasses.fields(kind):
        words = str(hints[field.name])
        of_type = any(word in words for word in ("int", "float", "str")) and "Path" not in words
        bounds = [field.metadata.get(name) for name in ("allowed", "choices")]
        if of_type and bounds == [None, None]:
            found.add(f"{kind.__name__}.{field.name}")
    return found


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_settings__every_flag_says_what_it_takes(kind: Any) -> None:
    """`flag(..., allowed=)` or `choices`: `--num_workers -1`, `--lr nan` and `--method_name ../x` passed."""
    assert unbounded(kind) <= FREE
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            assert wrong_value(field, types_of(kind)[field.name], field.default) is None


def test_settings__the_guard_sees_a_flag_without_bounds() -> None:
    fields = [("depth", int, flag(1, "deep")), ("place", Path | None, flag(None, "where"))]
    open_ended = dataclasses.make_dataclass("Open", fields, bases=(Settings,), frozen=True)
    assert unbounded(open_ended) == {"Open.depth"}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_settings__every_field_is_read(kind: Any) -> None:
    """A flag that nothing reads would be accepted, recorded, and mean nothing."""
    unread = {field.name for field in dataclasses.fields(kind)} - names_read(kind)
    assert not unread


def test_scripts__are_found() -> None:
    assert "pseudo_labels/evaluation/evaluate_pseudolabels.py" in SCRIPTS and len(SCRIPTS) >= 24


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts__help_imports_nothing_heavy(script: str) -> None:
    """`--help` answers at once. Modules are looked at, not the clock: that is the same on every machine."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{script!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({script!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        f"    sys.exit(end.code or ' '.join(m for m in {HEAVY!r} if m in sys.modules) or 0)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"imported for --help, or failed: {run.stderr[-500:]}"
    assert "usage:" in run.stdout


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name != PIPELINE])
def test_scripts__an_abbreviated_flag_is_refused(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = import_module(script.removesuffix(".py").replace("/", "."))
    with pytest.raises(SystemExit) as exit_code:
        module.main(["--cityscapes_roo", "x", "--cups_di", "x"])
    assert exit_code.value.code == 2
    error = capsys.readouterr().err
    assert "--cityscapes_roo x" in error or "are required" in error


def test_pipeline__an_abbreviated_flag_is_one_that_no_step_knows() -> None:
    with pytest.raises(UserError, match=r"^--spli: no step of this run knows this flag$"):
        pipeline.main(["--cityscapes_root", "x", "--dry_run", "--spli", "val"])


ONE_PROCESS = [
    f"pseudo_labels/{name}.py"
    for name in (
        *("train_cause", "train_spidepth", "train_dinosaur", "train_refine_net", "train_joint_refine_net"),
        *("classify_stuff_things", "overclustering_cause"),
    )
]


@pytest.mark.parametrize("script", ONE_PROCESS)
def test_scripts__trainings_and_statistics_have_no_shards(
    script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train_... --num_shards 8 --shard 0` trained on an eighth of the images and said nothing."""
    main = import_module(script.removesuffix(".py").replace("/", ".")).main
    for flags in (["--num_shards", "2"], ["--shard", "1"], ["--executor", "local"]):
        with pytest.raises(SystemExit) as exit_code:
            main(["--cityscapes_root", str(tmp_path), *flags])
        assert exit_code.value.code == 2
        assert flags[0] in capsys.readouterr().err
