"""What an earlier run left in a folder: whether it may stay beside what this run writes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cups.errors import UserError
from cups.io.files import read_json, write_json
from cups.io.fingerprint import changed_fits, changed_inputs, changed_weights, fingerprint_of
from cups.io.images import image_bytes
from cups.io.locking import exclusive
from cups.io.provenance import FILE_NAME as PROVENANCE
from cups.io.provenance import any_ground_truth, make_provenance, read_provenance
from pseudo_labels.steps.flags import recipe_of, settings_of
from pseudo_labels.steps.frames import IMAGES, Folder, Frame, FrameSource
from pseudo_labels.steps.options import ShardRun

log = logging.getLogger(__name__)
CONTACT_SHEET = "contact_sheet.png"
MIXED = "repeat it for all images (`split` all, no `shard`), use another `output_root`, or remove the folder"


def recorded(source: FrameSource, settings: Any, root: Path) -> dict[str, Any]:
    """Return what `provenance.json` keeps of a run: the same from one process and from many."""
    everything = {**settings_of(source, decides_only=False), "output_root": str(root)}
    return {**everything, **settings_of(settings, decides_only=False)}


@dataclass(frozen=True)
class Difference:
    """Why files of an earlier run are not what this one would write, in words, and what to do about it."""

    reason: str
    fix: str


def first_difference(
    earlier: Mapping[str, Any], now: Mapping[str, Any], settings: Mapping[str, Any]
) -> Difference | None:
    """Return the first difference between an earlier provenance and one to be written, as far as both tell.

    Args:
        settings: those that decide.
    """
    if earlier.get("script") != now.get("script"):
        return Difference(f"written by {earlier.get('script')}", "use another `output_root`")
    then = earlier.get("arguments", {})
    changed = [key for key in settings if key in then and then[key] != settings[key]]
    if changed:
        was = ", ".join(f"`{key}` {then[key]}" for key in changed)
        return Difference(f"holds files made with {was}", "repeat that, or add `overwrite`")
    for what, names in (
        ("weights", changed_weights(earlier, now.get("weights", ()))),
        ("inputs", changed_inputs(earlier, now)),
        ("fits", changed_fits(earlier, now)),
    ):
        if names:
            told = ", ".join(names) + ("" if what == "inputs" else " changed")
            return Difference(f"holds files made with other {what} ({told} since)", "add `overwrite`")
    return None


def training_provenance(
    source: FrameSource,
    settings: Any,
    root: Path,
    *,
    script: str,
    inputs: Sequence[Path] = (),
    weights: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the `provenance.json` of weights: all images of the source decide them.

    root: the output root, as recorded.
    """
    return make_provenance(
        script=script,
        arguments=recorded(source, settings, root),
        images=source.image_folder,
        inputs=inputs,
        weights=weights,
        settings=recipe_of(settings),
        frames={frame.name: image_bytes(frame.image) for frame in source.frames()},
        whole=True,
    )


def continued_training(
    folder: Path, earlier: Mapping[str, Any], now: dict[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the `provenance.json` of weights in `folder` whose training goes on, or is through.

    Provenances of version 0.2.0 do not tell the images: the arguments that chose them are compared.

    Args:
        earlier, now: provenance of the run that began, and of this one.
        settings: those that decide.

    Raises:
        UserError: they were trained otherwise, from other inputs or on other images.
    """
    other = "or give another `checkpoint_dir`"
    difference = first_difference(earlier, now, settings)
    if difference is not None:
        raise UserError(f"{folder}: {difference.reason}; {difference.fix}, {other}")
    then, present = earlier.get("frames"), now["frames"]
    if then is not None and then != present:
        this = "others" if then["count"] == present["count"] else str(present["count"])
        told = f"was trained on {count_images(then['count'])}, this run has {this}"
        raise UserError(f"{folder}: {told}; add `overwrite`, {other}")
    arguments = earlier.get("arguments", {})
    for key in ("split", "max_images"):
        if then is None and arguments.get(key) != now["arguments"].get(key) and key in arguments:
            raise UserError(f"{folder}: was trained with `{key}` {arguments[key]}; add `overwrite`, {other}")
    facts = [now["uses_ground_truth"], earlier.get("uses_ground_truth")]
    return {**now, "uses_ground_truth": any_ground_truth(facts), "fingerprint": fingerprint_of(earlier)}


def count_images(count: int) -> str:
    """Return a number of images in words."""
    return f"{count} image" + ("" if count == 1 else "s")


@dataclass(frozen=True, eq=False)
class Resume:
    """What a run does with the frames that a folder may hold files of.

    Attributes:
        everything: the frames of all shards.
        todo: those that this process writes.
        kept: those whose files stay.
        is_done: whether a frame's files would stay without `overwrite`.
        sizes: bytes of the image of each frame of this shard, by name.
    """

    everything: Sequence[Frame]
    todo: Sequence[Frame]
    kept: Sequence[Frame]
    run: ShardRun
    is_done: Callable[[Frame], bool]
    sizes: Mapping[str, int]

    def account(self, folder: Folder, content: dict[str, Any], settings: Mapping[str, Any]) -> None:
        """Write `provenance.json` and which images the files are made of.

        Raises:
            UserError: files would stay that another recipe, or another image, gave.
        """
        path = folder.directory / PROVENANCE
        with exclusive(path):
            earlier = read_provenance(folder.directory)
            if earlier is not None:
                content = self._beside(folder, earlier, content, settings)
            self._note_images(folder)
            write_json(path, content)

    def _beside(
        self,
        folder: Folder,
        earlier: Mapping[str, Any],
        content: dict[str, Any],
        settings: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return the content with what stays true of the files that an earlier run left."""
        difference = first_difference(earlier, content, settings)
        if difference is not None:
            self._refuse_mixture(folder, difference)
        elif fingerprint_of(earlier) != content["fingerprint"] and (
            self.kept or files_besides(folder, self._redone())
        ):
            # Equal as far as both tell: the files that stay keep the identity that others know them by.
            content = {**content, "fingerprint": fingerprint_of(earlier)}
        # One shard alone overwrites its part; the others' files keep what was recorded of them.
        facts = [content["uses_ground_truth"], earlier.get("uses_ground_truth")]
        if facts[0] != facts[1] and (
            self.kept or not self.run.redoes_all or files_besides(folder, self.everything)
        ):
            content = {**content, "uses_ground_truth": any_ground_truth(facts)}
        return content

    def _redone(self) -> list[Frame]:
        """Return the frames that this run, or the next that resumes it, makes anew."""
        mine = self.everything if self.run.redoes_all else self.todo if self.run.overwrite else []
        known = {frame.name for frame in mine}
        return [*mine, *(f for f in self.everything if f.name not in known and not self.is_done(f))]

    def _refuse_mixture(self, folder: Folder, difference: Difference) -> None:
        """Raise a `UserError` if files would stay; else remove all, lest a killed run leave some of them."""
        redone = self._redone()
        left = files_besides(folder, redone)
        if not left:
            for frame in redone:
                folder.path(frame).unlink(missing_ok=True)
            (folder.directory / IMAGES).unlink(missing_ok=True)
            return
        others = files_besides(folder, [*reach(self.everything, self.run), *redone])
        where = f"{folder.directory}: {difference.reason}"
        if others:
            raise UserError(
                f"{where}, {len(others)} of images not in this run ({others[0].name} ...); {MIXED}"
            )
        raise UserError(f"{where}; {difference.fix}")

    def _note_images(self, folder: Folder) -> None:
        """Bring the list of images up to date.

        Raises:
            UserError: the file of a frame stays, but was made of an image of another size.
        """
        path = folder.directory / IMAGES
        before = read_json(path, "remove the folder, or run the step again") if path.is_file() else {}
        other = [f for f in self.kept if before.get(f.name, self.sizes[f.name]) != self.sizes[f.name]]
        if other:
            raise UserError(
                f"{folder.directory}: {count_images(len(other))} had another size when its files were made ("
                f"first: {other[0].image}); add `overwrite`, or use another `output_root`"
            )
        for frame in self.todo:
            if before.get(frame.name, self.sizes[frame.name]) != self.sizes[frame.name]:
                folder.path(frame).unlink(missing_ok=True)  # a killed run must not leave it
        after = {**before, **self.sizes}
        if after != before:
            write_json(path, dict(sorted(after.items())))


def reach(frames: Sequence[Frame], run: ShardRun) -> Sequence[Frame]:
    """Return the frames that a run makes anew with `overwrite`: one shard alone redoes only its part.

    frames: of all shards.
    """
    return frames if run.num_shards == 1 or run.run_id is not None else run.part(frames)


def files_besides(folder: Folder, frames: Sequence[Frame]) -> list[Path]:
    """Return the files of a folder, sorted, that are of none of these frames."""
    known = {folder.path(frame) for frame in frames}
    found = (
        path
        for path in folder.directory.rglob(f"*{folder.suffix}")
        if not path.name.startswith((".", CONTACT_SHEET)) and path not in known
    )
    return sorted(found)
