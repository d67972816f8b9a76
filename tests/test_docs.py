"""README and docs: commands parse, the Python runs, links lead somewhere, sentences are short."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch

from cups.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "TESTING.md", "CHANGELOG.md", "docs/*.md")
GENERATED = "docs/configuration.md"
FOLDERS = ("cups", "pseudo_labels", "refs", "studies", "scripts", "configs", "benchmarks", "tests", "docs")
VALUES = {"R": "/data/cityscapes"}
"""What a reader puts in place of the variables that the pages do not set."""
PUT_BY_USER = (
    "names.yaml",
    "my_classes.yaml",
    "my_set.yaml",
    "refs/cause/CAUSE/",
    "refs/spidepth/checkpoints/",
    "cups/model/backbone_checkpoints/",
)
"""Where downloaded weights lie; git ignores these folders."""
WRITTEN_BY_RUNS = frozenset(
    {"config.yaml", "results.md", "runs/demo/report.md", "out/report.md", "report.md"}
)
FOREIGN = frozenset({"pip", "pre-commit"})
"""Programs of others that the pages call; nothing here knows their flags."""
Parses = Callable[[str, Sequence[str]], None]


def _pages() -> list[Path]:
    return sorted(path for pattern in PAGES for path in ROOT.glob(pattern))


WRITTEN = [path for path in _pages() if path.name != "CHANGELOG.md"]
"""Pages that speak of today; a changelog names what is gone."""


def _prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.M | re.S)


def _blocks(page: Path, language: str) -> Iterator[str]:
    for match in re.finditer(rf"^( *)```{language}\n(.*?)^\1```$", page.read_text(), re.M | re.S):
        yield match[2]


@dataclass(frozen=True)
class Command:
    """One command of a page: where it stands, its words, and the variables set before it."""

    page: str
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def _commands(page: Path) -> Iterator[Command]:
    """Yield the commands of a page's bash blocks; `NAME="..."` on a line of its own sets a variable."""
    for block in _blocks(page, "bash"):
        values = dict(VALUES)
        for line in block.replace("\\\n", " ").splitlines():
            text = re.sub(r"\$(\w+)", lambda name, known=values: known[name[1]], line)
            words = shlex.split(text, comments=True)
            environment = {}
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0], re.S):
                name, _, environment[name] = words.pop(0).partition("=")
            if words:
                yield Command(page.relative_to(ROOT).as_posix(), tuple(words), tuple(environment.items()))
            else:
                values.update(environment)


@cache
def _all_commands() -> tuple[Command, ...]:
    return tuple(dict.fromkeys(command for page in _pages() for command in _commands(page)))


def _module(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the module that a `python` command starts, and its arguments."""
    if words[0] == "-m":
        return words[1], list(words[2:])
    script = Path(words[0])
    assert (ROOT / script).is_file(), f"{script}: no such script"
    name = script.stem if script.parts[0] == "scripts" else ".".join(script.with_suffix("").parts)
    return name, list(words[1:])


def _shell(script: str, arguments: Sequence[str], environment: dict[str, str]) -> None:
    """Run a script of scripts/ and expect success."""
    known = {key: value for key, value in os.environ.items() if "SLURM" not in key}
    known["PATH"] = f"{Path(sys.executable).parent}:{known['PATH']}"
    run = subprocess.run(
        ["bash", str(ROOT / script), *arguments],
        env=known | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def _check_script(command: Command, script: str, arguments: list[str], parses: Parses) -> None:
    """Check the command line of a shell script, running nothing that takes long."""
    name, environment = Path(script).name, dict(command.environment)
    if name in (
        "demo.sh",
        "check_ceiling.sh",
        "run_label_efficient.sh",
    ):  # they set up, then hand their arguments on
        parses(f"studies.{Path(script).stem.removeprefix('run_')}", arguments)
    elif name == "run_own_data.sh":  # tests/test_own_data.py runs the commands of its page
        assert "--input" in arguments and "--output" in arguments
    elif name == "setup.sh":
        text = (ROOT / script).read_text()
        assert all(f"{argument})" in text or f"{argument} " in text for argument in arguments)
    elif name == "test.sh":  # pytest's arguments
        assert all((ROOT / argument).exists() for argument in arguments if argument.startswith("tests"))
    elif name == "run_stage1.sh":
        _shell(script, [*arguments, "--dry_run"], environment)
    elif name == "download_checkpoints.sh":
        _shell(script, [*arguments, "--list"], environment)
    else:
        _shell(script, arguments, {**environment, "DRY_RUN": "1", "REPOSITORY": str(ROOT)})


def _check(command: Command, parses: Parses) -> None:
    program, arguments = command.words[0], list(command.words[1:])
    if program == "python":
        parses(*_module(arguments))
    elif program == "bash":
        _check_script(command, arguments[0], arguments[1:], parses)
    elif program == "sbatch":
        position = next(i for i, word in enumerate(arguments) if word.startswith("scripts/"))
        _check_script(command, arguments[position], arguments[position + 1 :], parses)
    elif program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
        assert set(arguments) <= set(targets)
    else:
        assert program in FOREIGN, f"{program}: teach this test what it is"


@pytest.mark.parametrize("command", _all_commands(), ids=str)
def test_commands__are_understood(command: Command, parses: Parses) -> None:
    """A flag that a page names and a script does not know was the first thing that readers ran into."""
    _check(command, parses)


def test_commands__are_found() -> None:
    found = [command.words for command in _all_commands()]
    assert len(found) > 50 and ("make", "test") in found
    scripts = {word for words in found for word in words if word.endswith(".py")}
    assert {
        "train.py",
        "train_self.py",
        "train_hybrid.py",
        "val.py",
        "scripts/cups_inference_val.py",
    } <= scripts
    assert "pseudo_labels/convert_to_cups_format.py" in scripts


@pytest.mark.parametrize(
    "line",
    [
        "python pseudo_labels/remap_cause27_to_trainid.py --cityscapes_root $R --nix",
        "python train.py TRAINING.STEPZ 3",
        "python pseudo_labels/nix.py",
        "bash scripts/run_vitb_stage2.sh",
        "bash scripts/run_stage1.sh --k50",
        "bash scripts/demo.sh --nix",
        "bash scripts/setup.sh --nix",
        "make nix",
        "curl x",
    ],
)
def test_commands__wrong_ones_are_seen(line: str, parses: Parses) -> None:
    words = tuple(shlex.split(line.replace("$R", VALUES["R"])))
    environment = tuple((name, "") for name in ("DATA_ROOT", "PSEUDO_ROOT", "CITYSCAPES_ROOT"))
    with pytest.raises((AssertionError, SystemExit, UserError)):
        _check(Command("x", words, environment), parses)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    titles = re.findall(r"^#+ (.*)$", _prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def _links(page: Path) -> list[str]:
    links = re.findall(r"\]\(([^)\s]+)\)", _prose(page))
    return [link for link in links if not link.startswith(("http:", "https:"))]


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.name)
def test_links__lead_somewhere(page: Path) -> None:
    for link in _links(page):
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_links__every_page_is_reached_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in _links(ROOT / "README.md")}
    assert {path for path in _pages() if path.name != "README.md"} <= linked


@cache
def _file_names() -> frozenset[str]:
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*")] + list(ROOT.iterdir())
    return frozenset(file.name for file in files)


def _named_files(page: Path) -> Iterator[str]:
    """Yield what stands in backquotes and looks like a file or folder of the repository."""
    for text in re.findall(r"`([^`\n]+)`", _prose(page)):
        for word in text.split():
            is_path = re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", word) is not None
            known = word.split("/")[0] in FOLDERS and "/" in word
            if is_path and (known or word.endswith((".py", ".sh", ".yaml", ".toml"))):
                yield word


@pytest.mark.parametrize("page", WRITTEN, ids=lambda p: p.name)
def test_files__named_in_the_text_exist(page: Path) -> None:
    for name in _named_files(page):
        if name in WRITTEN_BY_RUNS or name.startswith(PUT_BY_USER):
            continue
        assert (ROOT / name).exists() or ("/" not in name and name in _file_names()), f"{page.name}: {name}"


def test_architecture__names_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for package in ("cups", "pseudo_labels", "refs", "studies"):
        rooms = [file.parent.name for file in (ROOT / package).glob("*/__init__.py")]
        assert rooms
        for room in rooms:
            assert re.search(rf"^  {room}/ ", text, re.M), f"{package}/{room}"


def _sentences(page: Path) -> list[int]:
    """Return the number of words of each sentence of the text: no code, no tables, no headings."""
    lines = [line for line in _prose(page).splitlines() if not re.match(r"\s*(\||#|!\[)", line)]
    paragraphs = re.split(r"\n\s*\n|^\s*[-*] |^\s*\d+\. ", "\n".join(lines), flags=re.M)
    text = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split())) for paragraph in paragraphs]
    found = [part for paragraph in text for part in re.split(r"(?<=[.!?:;])[*]*\s+", paragraph)]
    return [len(part.split()) for part in found if part.strip(" *")]


@pytest.mark.parametrize("page", WRITTEN, ids=lambda p: p.name)
def test_sentences__are_short(page: Path) -> None:
    """Half of them have 15 words or fewer; readers' first language may be another."""
    if page.relative_to(ROOT).as_posix() != GENERATED:
        assert statistics.median(_sentences(page)) <= 15


def test_readme__is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_pages__python_runs(
    tmp_path: Path, tiny_city: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example, as it stands, in a folder with the names that it uses."""
    from cups.model import panoptic_cascade_mask_r_cnn

    kind = "Panoptic-Cascade-Mask-R-CNN-Small.yaml"
    torch.manual_seed(0)
    model = panoptic_cascade_mask_r_cnn(8, 12, model_config=kind)
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    hyper_parameters = {"model": {"model_config": kind, "model_overrides": []}}
    torch.save({"state_dict": state, "hyper_parameters": hyper_parameters}, tmp_path / "last.ckpt")
    (tmp_path / "cityscapes").symlink_to(tiny_city)
    monkeypatch.chdir(tmp_path)
    shutil.copy(next((tiny_city / "leftImg8bit").rglob("*.png")), tmp_path / "photo.jpg")
    pages = (ROOT / "README.md", ROOT / "docs" / "evaluation.md")
    for code in (code for page in pages for code in _blocks(page, "python")):
        assert len(code.splitlines()) <= 14
        exec(compile(code, "page", "exec"), {"__name__": "page"})
    assert (tmp_path / "overlay.png").is_file()
    assert re.search(r"^panoptic quality 0\.\d{3}$", capsys.readouterr().out, re.M)
