"""Videos as folders of frames: `clip.mp4/000000`, `clip.mp4/000001`, ... are read like image files.

A frame is a virtual path below the video's own. PyAV decodes: one open decoder for each video and process, so
that reading in order decodes every frame once, and any other order starts at the key frame before.
"""

from __future__ import annotations

import logging
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cups.errors import UserError
from cups.io.file_names import VIDEO_SUFFIXES
from cups.io.limits import check_file, check_pixels, pixel_limit

log = logging.getLogger(__name__)
OPEN_VIDEOS = 2
"""Decoders that a process keeps open."""
KEPT_BYTES = 256 * 2**20
"""Memory for frames that were decoded lately: readers in several threads ask a little out of order."""
KEPT_FRAMES = 24
RATE_SLACK = 0.05
"""Of the rate that a file tells; phones vary it, and some files tell another than they have."""
WHOLE = 0.95
"""Share of the frames that a video says it has, below which it counts as cut short."""
NEAR = 16
"""Frames up to the next key frame that are rather decoded than jumped over."""
STREAMS = ("mpeg", "mpegts")
"""Containers without an index: a seek there does not land where it should."""
FIX = "copy the file again, or convert it (for example to H.264 in .mp4)"


@dataclass(frozen=True)
class VideoIndex:
    """What a video holds, found without decoding more than its two ends.

    Attributes:
        times: presentation time of each frame, rising, in units of the stream.
        keys: numbers of the frames that decoding can start at, rising; the first is 0.
        rate: frames per second.
        size: (H, W) of all frames as shown, turned as the recording device says.
        turns: quarter turns, counter-clockwise, that bring a decoded frame upright.
        ordered: whether times tell frames apart; else frames are counted from the start.
    """

    times: tuple[int, ...]
    keys: tuple[int, ...]
    rate: float
    size: tuple[int, int]
    turns: int
    ordered: bool = True


def is_video(path: Path) -> bool:
    """Return whether a path is a video file, by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def is_frame(path: Path) -> bool:
    """Return whether a path is a frame inside a video file: `clip.mp4/000012`."""
    return path.name.isdecimal() and is_video(path.parent)


def stored_file(path: Path) -> Path:
    """Return the file that holds an image: itself, or the video of a frame."""
    return path.parent if is_frame(path) else path


def frame_paths(video: Path) -> list[Path]:
    """Return the virtual paths of all frames of a video, in order.

    Raises:
        UserError: no video that can be decoded.
    """
    return [video / f"{number:06d}" for number in range(len(video_index(video).times))]


def frame_rate(video: Path) -> float:
    """Return the frames per second of a video (the mean, where it varies).

    Raises:
        UserError: no video that can be decoded.
    """
    return video_index(video).rate


def video_size(path: Path) -> tuple[int, int]:
    """Return the (H, W) of a video, or of a frame of one, upright; frames are not decoded for it."""
    return video_index(stored_file(path)).size


def read_frame(path: Path) -> np.ndarray:
    """Read a frame of a video, upright: (H, W, 3) uint8 RGB.

    Raises:
        UserError: no such frame, or it cannot be decoded.
    """
    video, number = path.parent, int(path.name)
    index = video_index(video)
    if number >= len(index.times):
        raise UserError(f"{path}: no such frame; {video.name} has {len(index.times)}")
    return _reader(video, index).read(number)


def video_index(video: Path) -> VideoIndex:
    """Return the index of a video, made once in a process while the file stays as it is.

    Raises:
        UserError: missing file, or no video that can be decoded.
    """
    check_file(video, "check the path")
    state = video.stat()
    return _index(video, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _index(video: Path, size: int, changed: int) -> VideoIndex:
    with _opened(video) as container:
        stream = container.streams.video[0]
        found, keys, complete = _demux(container, stream)
        seekable = container.format.name not in STREAMS
        rate = _mean_rate(stream, found)
        seconds = (
            float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
        )
        expected = stream.frames or seconds * rate
        if not rate or not found:
            raise UserError(f"{video}: holds no frame that can be decoded; {FIX}")
    first = next(_frames(video), None)
    if first is None:
        raise UserError(f"{video}: holds no frame that can be decoded; {FIX}")
    turns = round(first.rotation / 90) % 4
    height, width = (first.width, first.height) if turns % 2 else (first.height, first.width)
    ordered = seekable and None not in found and len(set(found)) == len(found) and 0 in keys
    times = sorted(found) if ordered else list(range(sum(1 for _ in _frames(video))))
    if ordered:
        times, key_times = _decodable(video, times, {found[place] for place in keys})
        places = {place for place, time in enumerate(times) if time in key_times}
    else:
        places = set()
    if len(times) < len(found) or not complete or len(times) < WHOLE * expected - 1:
        log.warning(
            "%s: cut short or damaged; %d frames can be read, the others are left out", video, len(times)
        )
    starts = tuple(sorted({0, *places}))
    return VideoIndex(tuple(times), starts, rate, (height, width), turns, ordered)


def _mean_rate(stream: Any, times: list[Any]) -> float:
    """Return the frames per second: what the file says, or the mean of the times where that is another."""
    told = float(stream.average_rate or stream.guessed_rate or stream.base_rate or 0)
    known = sorted({time for time in times if time is not None})
    if len(known) < max(2, len(times)):
        return told
    mean = (len(known) - 1) / float((known[-1] - known[0]) * stream.time_base)
    return told if abs(told - mean) <= RATE_SLACK * mean else mean


def _demux(container: Any, stream: Any) -> tuple[list[Any], list[int], bool]:
    """Return times of the packets, places of key frames, and whether the file could be read to its end."""
    import av

    times: list[Any] = []
    keys: list[int] = []
    try:
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard or packet.is_corrupt:
                continue
            if packet.is_keyframe:
                keys.append(len(times))
            times.append(packet.pts)
    except av.FFmpegError:
        return times, keys, False
    return times, keys, True


def _decodable(video: Path, times: list[int], keys: set[int]) -> tuple[list[int], set[int]]:
    """Return the times and keys without those at both ends of which no frame comes out of the decoder."""
    key_times = sorted(keys)
    head_end = key_times[1] if len(key_times) > 1 else times[-1] + 1
    head = {frame.pts for frame in _frames(video, until=head_end)}
    kept = [time for time in times if time >= head_end or time in head]
    # A cut file may have lost more than its last group of frames: go back until one comes out whole enough.
    for start in reversed(key_times):
        if start < head_end:
            break
        tail = {frame.pts for frame in _frames(video, since=start)}
        if start in tail:
            kept = [time for time in kept if time < start or time in tail]
            break
        kept = [time for time in kept if time < start]
    return kept, keys


def _frames(video: Path, since: int | None = None, until: int | None = None) -> Iterator[Any]:
    """Decode frames from a key frame on; ends quietly where the data are damaged for good."""
    with _opened(video) as container:
        stream = container.streams.video[0]
        if since is not None:
            container.seek(since, stream=stream)
        for frame in _decoded(container, stream):
            if until is not None and frame.pts is not None and frame.pts >= until:
                return
            if since is None or (frame.pts is not None and frame.pts >= since):
                yield frame


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the frames of the packets that can be decoded; the others are passed over."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            return
        try:
            yield from packet.decode()
        except av.FFmpegError:
            continue


def _opened(video: Path) -> Any:
    """Open a video for reading, with one decoding thread, so that it may be dropped after a fork.

    Raises:
        UserError: it cannot be opened, or holds no moving pictures.
    """
    import av

    try:
        container = av.open(str(video))
    except (av.FFmpegError, ValueError) as error:
        reason = " ".join(str(error).split())[:80]
        raise UserError(f"{video}: cannot be opened as a video ({reason}); {FIX}") from None
    if not container.streams.video:
        container.close()
        raise UserError(f"{video}: holds no moving pictures; check the file")
    context = container.streams.video[0].codec_context
    if context is None:
        container.close()
        raise UserError(f"{video}: its codec is not known; {FIX}")
    try:
        check_pixels(video, context.height, context.width)
    except UserError:
        container.close()
        raise
    context.thread_count, context.thread_type = 1, "NONE"
    context.options = {"max_pixels": str(int(min(pixel_limit() * 1e6, 2**31 - 1)))}  # frames may say more
    return container


class _Reader:
    """One open decoder of a video, for the threads of one process."""

    def __init__(self, video: Path, index: VideoIndex) -> None:
        self.video, self.index = video, index
        self.lock = threading.Lock()
        self.place = {time: number for number, time in enumerate(index.times)}
        self.kept: OrderedDict[int, np.ndarray] = OrderedDict()
        height, width = index.size
        self.room = max(1, min(KEPT_FRAMES, KEPT_BYTES // (3 * height * width)))
        self.container: Any = None
        self.stream: Iterator[tuple[int, Any]] = iter(())
        self.next = 0

    def read(self, number: int) -> np.ndarray:
        """Return a frame, see `read_frame`."""
        with self.lock:
            if number not in self.kept:
                self._advance(number)
            if number not in self.kept:
                raise UserError(f"{self.video / f'{number:06d}'}: cannot be decoded; {FIX}")
            self.kept.move_to_end(number)
            return self.kept[number].copy()

    def _advance(self, number: int) -> None:
        """Decode up to a frame, from where the decoder is or from the key frame before."""
        place = bisect_right(self.index.keys, number) - 1
        key = self.index.keys[place]
        if self.container is None or not key - NEAR <= self.next <= number:
            self._start(key)
            # A container that is sought by decoding times may land behind the frame: go back further.
            while self._decode_to(number) is False and place > 0:
                place = max(0, place - 2)
                self._start(self.index.keys[place])
            return
        self._decode_to(number)

    def _decode_to(self, number: int) -> bool:
        """Decode until a frame has passed; returns False if the first to come lay behind it."""
        first = True
        for place, frame in self.stream:
            self.next = place + 1
            if number - place < self.room:
                self._keep(place, frame)
            if place >= number:
                return place == number or not first
            first = False
        self.close()
        return True

    def _start(self, key: int) -> None:
        self.close()
        self.container = _opened(self.video)
        stream = self.container.streams.video[0]
        if self.index.ordered and key > 0:
            self.container.seek(self.index.times[key], stream=stream)
        frames = _decoded(self.container, stream)
        if self.index.ordered:
            self.stream = ((self.place[frame.pts], frame) for frame in frames if frame.pts in self.place)
        else:
            self.stream = enumerate(frames)
        self.next = key

    def _keep(self, place: int, frame: Any) -> None:
        # A stream may change its size on the way; all its frames are shown at the first one's.
        height, width = self.index.size[:: -1 if self.index.turns % 2 else 1]
        pixels = np.rot90(frame.to_ndarray(format="rgb24", height=height, width=width), self.index.turns)
        self.kept[place] = np.ascontiguousarray(pixels)
        while len(self.kept) > self.room:
            self.kept.popitem(last=False)

    def close(self) -> None:
        """Close the decoder; what was decoded stays."""
        if self.container is not None:
            self.container.close()
        self.container = None


_readers: OrderedDict[tuple[int, Path], _Reader] = OrderedDict()
_readers_lock = threading.Lock()


def _forget_readers() -> None:
    """Give a forked process decoders of its own: those of its parent share their place in the file."""
    global _readers, _readers_lock
    _readers, _readers_lock = OrderedDict(), threading.Lock()


os.register_at_fork(after_in_child=_forget_readers)


def _reader(video: Path, index: VideoIndex) -> _Reader:
    with _readers_lock:
        reader = _readers.pop((os.getpid(), video), None)
        if reader is None or reader.index is not index:
            reader = _Reader(video, index)
        _readers[os.getpid(), video] = reader
        while len(_readers) > OPEN_VIDEOS:
            _readers.popitem(last=False)
        return reader
