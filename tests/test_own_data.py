"""The page *Your own data*: each of its commands runs, in order, on toy frames as photos and as a video.

Nothing is replaced but the length of trainings: `STAGE1_FLAGS`, `CUPS_OPTS`, and flags that end the command
of a whole run. Toy frames lie in two folders that number them alike, as JPEG and PNG, one turned by EXIF.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from cups.data.toy_streets import write_dataset
from cups.io.png import read_ids, read_image, write_png
from tests.warm import warm_environment

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "own_data.md"
HEADS = (
    "--codebook_steps 2 --head_steps 2 --probe_steps 2 --codebook_size 16 --projection_dim 16 --hidden_dim 16"
)
STAGE1_FLAGS = f"{HEADS} --batch_size 2 --num_workers 0 --device cpu --steps 2 --height 64"
SHORT = (
    "--k",
    "12",
    "--num_workers",
    "0",
    "--flags",
    "train_cause",
    HEADS,
    "--flags",
    "train_spidepth",
    "--steps 2",
)
THINGS = "--thing_classes 1 2 3 4 5"
TOLD = (
    *("--flags", "classify_stuff_things", "--accept_nothing"),
    *("--flags", "generate_depth_guided_instances", f"--accept_nothing {THINGS}"),
    *("--flags", "convert_to_cups_format", THINGS),
)
CUPS_OPTS = (
    "SYSTEM.ACCELERATOR cpu SYSTEM.NUM_WORKERS 0 TRAINING.STEPS 2 TRAINING.BATCH_SIZE 1 "
    "TRAINING.PRECISION 32 TRAINING.VAL_EVERY_N_STEPS 2 DATA.CROP_RESOLUTION '(96, 192)' "
    "DATA.ONLY_NON_EMPTY_SAMPLES False "
    "SELF_TRAINING.ROUNDS 1 SELF_TRAINING.ROUND_STEPS 2 SELF_TRAINING.VAL_EVERY_N_STEPS 2 "
    "SELF_TRAINING.SELECT_FRAMES 1"
)


def commands() -> list[str]:
    """Return the commands of the page's shell blocks, variables in place."""
    lines = []
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.M | re.S):
        known: dict[str, str] = {}
        for line in block.replace("\\\n", " ").splitlines():
            if match := re.fullmatch(r'(\w+)="(.*)"', line):
                known[match[1]] = match[2]
            elif line.strip():
                lines.append(re.sub(r"\$(\w+)", lambda name, known=known: known[name[1]], line))
    return lines


def write_video(path: Path, images: list[np.ndarray]) -> None:
    """Write a video of ten frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def write_truth(folder: Path, name: str, image: Path) -> None:
    """Write the ground truth of a toy frame in the classes of the page."""
    stem = str(image).replace("leftImg8bit", "gtFine", 1).removesuffix("_leftImg8bit.png")
    ids, numbered = (read_ids(Path(f"{stem}_gtFine_{kind}.png")) for kind in ("labelIds", "instanceIds"))
    vehicle = np.isin(ids, (26, 27, 28)) & (numbered >= 1000)
    semantic = np.select([ids == 7, ids == 23, vehicle], [1, 2, 12], 0).astype(np.uint8)
    number = np.unique(np.where(vehicle, numbered, 0), return_inverse=True)[1].reshape(ids.shape)
    write_png(folder / "semantic" / name, semantic)
    write_png(folder / "instance" / name, number.astype(np.uint16))


@pytest.fixture(scope="module")
def place(make_folder: Callable[[str], Path]) -> Path:
    """A checkout with `photos/` and `clip.mp4` in it."""
    folder = make_folder("own_data")
    for part in ROOT.iterdir():
        if part.name not in ("experiments", "runs", "photos", ".venv"):
            (folder / part.name).symlink_to(part)
    write_dataset(
        folder / "toy", train_frames=8, val_frames=1, height=96, width=192, workers=1, progress=False
    )
    files = sorted((folder / "toy" / "leftImg8bit" / "train").rglob("*.png"))
    images = [read_image(file) for file in files]
    for number, image in enumerate(images):
        target = folder / "photos" / ("morning", "evening")[number % 2] / f"{number // 2}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        picture = Image.fromarray(image)
        if number == 0:  # stored on its side, as a phone does
            exif[0x0112], picture = 6, picture.transpose(Image.Transpose.ROTATE_90)
        picture.save(target, quality=95, exif=exif.tobytes())
    Image.fromarray(images[-1]).save(folder / "photos" / "last.png")
    Image.fromarray(images[0]).save(folder / "photo.jpg")
    for name, text in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", PAGE.read_text(), re.M | re.S):
        (folder / name).write_text(text)
    for number, file in enumerate(files):
        write_truth(folder / "my_labels", f"{('morning', 'evening')[number % 2]}/{number // 2}.png", file)
    write_truth(folder / "my_labels", "last.png", files[-1])
    clip = [file for file in files if file.parent == files[0].parent]
    write_video(folder / "clip.mp4", [read_image(file) for file in clip])
    return folder


def call(place: Path, words: list[str], **variables: str) -> str:
    """Run a command and return what it says; it fails when the command does."""
    environment = {
        **{key: value for key, value in os.environ.items() if key != "CITYSCAPES_ROOT"},
        **{"STAGE1_FLAGS": STAGE1_FLAGS, "CUPS_OPTS": CUPS_OPTS, "WANDB_MODE": "disabled"},
        **{"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"},
        **warm_environment(),
        **variables,
    }
    ended = subprocess.run(
        words,
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, f"exit code {ended.returncode}:\n{ended.stdout[-4000:]}"
    return ended.stdout


def run(place: Path, line: str) -> str:
    """Run a command of the page for a whole run, cut short."""
    words = [*shlex.split(line, comments=True), *SHORT]
    return call(place, [*words, *TOLD] if "--focal" in line else words)


def run_scripts(place: Path, lines: list[str]) -> dict[str, str]:
    """Run commands of Python scripts in one process; return what each said."""
    todo = place / "todo.json"
    todo.write_text(json.dumps([shlex.split(line, comments=True)[1:] for line in lines]))
    text = call(place, ["python", str(ROOT / "tests" / "seed" / "run.py"), str(todo)])
    parts = re.split(r"^exit code 0 after .*$", text, flags=re.M)
    assert len(parts) == len(lines) + 1
    return dict(zip(lines, parts, strict=False))


@pytest.fixture(scope="module")
def said(place: Path) -> dict[str, str]:
    """What each command of the page said, all of them run in order."""
    found: dict[str, str] = {}
    for whole, group in itertools.groupby(commands(), lambda line: line.startswith("bash ")):
        lines = list(group)
        found |= {line: run(place, line) for line in lines} if whole else run_scripts(place, lines)
    return found


def first(said: dict[str, str], *words: str) -> str:
    """Return what the first command said that holds all words."""
    return next(text for line, text in said.items() if all(word in line for word in words))


def test_help__by_the_python_that_a_user_has(place: Path) -> None:
    words = ["bash", "scripts/run_own_data.sh", "--help"]
    assert "--focal" in call(place, words, VIRTUAL_ENV="", PATH=os.environ["PATH"])


def test_check__plans_all_stages_and_writes_nothing(said: dict[str, str]) -> None:
    text = first(said, "--check")
    for step in ("CAUSE heads", "overclusters", "CUPS format", "Stage 2", "Stage 3", "predictions"):
        assert step in text
    assert "9 images in photos" in text and "report:" not in text


@pytest.mark.parametrize("output", ["out", "out_clip"])
def test_run__ends_in_predictions_and_a_report_without_labels(
    said: dict[str, str], place: Path, output: str
) -> None:
    folder = place / output
    report = (folder / "report.md").read_text()
    assert "used ground truth: **no**" in report and "| Stage 3 " in report
    assert min(read_image(folder / "figure.png").shape[:2]) > 300
    content = json.loads((folder / "predictions" / "panoptic.json").read_text())
    names = [image["file_name"] for image in content["images"]]
    assert len(set(names)) == len(names) == (9 if output == "out" else 4)
    for entry in content["annotations"]:
        assert (folder / "predictions" / "panoptic" / entry["file_name"]).is_file()


def test_run__a_video_gives_depth_and_an_overlay_video(said: dict[str, str], place: Path) -> None:
    assert (place / "out_clip" / "stage1" / "spidepth" / "depth.pth").is_file()
    videos = [path for path in (place / "out_clip" / "predictions").rglob("*.mp4")]
    with av.open(str(videos[0])) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4
    assert "depth network" in first(said, "clip.mp4")


def test_run__photos_without_weights_do_without_depth(said: dict[str, str], place: Path) -> None:
    assert not (place / "out" / "stage1" / "depth_spidepth").exists()
    split = json.loads((place / "out" / "labels" / "thing_stuff_split.json").read_text())
    assert split["things"] and "No depth" in first(said, "--output out", "photos")


def test_run__again_does_nothing_anew(said: dict[str, str], place: Path) -> None:
    line = next(line for line in said if "--output out" in line and "--check" not in line)
    text = run(place, line)
    assert text.count("done before") == text.count("[own data ") > 5


def test_run__other_images_are_refused(said: dict[str, str], place: Path) -> None:
    extra = place / "photos" / "another.png"
    Image.open(place / "photos" / "last.png").save(extra)
    try:
        line = next(line for line in said if "--output out" in line and "--check" not in line)
        with pytest.raises(AssertionError, match=r"exit code 2:(.|\n)*error: out: its run is of 9 images"):
            run(place, line)
    finally:
        extra.unlink()


def test_page__the_python_runs(said: dict[str, str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "last.ckpt").symlink_to(place / "out" / "stage3" / "checkpoints" / "best.ckpt")
    monkeypatch.chdir(place)
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    names: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    picture = names["picture"]
    assert isinstance(picture, np.ndarray) and picture.shape[1] == 192 and picture.shape[0] >= 96


def test_page__own_truth_is_scored_in_its_classes(said: dict[str, str]) -> None:
    text = first(said, "--truth")
    assert "vehicle" in text and "road" in text and "standard" in text


def test_page__names_are_taken(said: dict[str, str], place: Path) -> None:
    content = json.loads((place / "named" / "panoptic.json").read_text())
    names = [category["name"] for category in content["categories"]]
    assert {"road", "sky"} <= set(names) and len(content["images"]) == 1
