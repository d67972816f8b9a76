"""The three phases of CAUSE's training, without labels (Kim et al., 2024)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from cups.backbones.names import TEXTON, is_own
from cups.errors import Stopped, UserError
from cups.io.checkpoint import load_state, write_file
from cups.io.files import write_json
from cups.io.fingerprint import digest_of
from cups.io.provenance import FILE_NAME as PROVENANCE
from cups.io.provenance import read_provenance
from cups.training.stopping import StopSignals
from pseudo_labels.networks.cause_codes import FeatureExtractor, Standardizer
from pseudo_labels.networks.cause_heads import (
    CLUSTER,
    SEGMENT,
    STANDARDIZER_DIGEST,
    backbone_file,
    build_extractor,
    own_heads,
    save_heads,
)
from pseudo_labels.networks.frozen_features import backbone_weights
from pseudo_labels.networks.phase_progress import FILE_NAME as PROGRESS
from pseudo_labels.networks.phase_progress import STATES, Phase, PhaseProgress, newest_whole
from pseudo_labels.networks.training import only_training
from pseudo_labels.settings.cause import CauseTraining
from pseudo_labels.steps.flags import settings_of
from pseudo_labels.steps.frames import Frame, FrameSource
from pseudo_labels.steps.left_out import readable
from pseudo_labels.steps.options import RunOptions
from pseudo_labels.steps.resume import continued_training, training_provenance
from refs.cause import (
    Cluster,
    MemoryBank,
    SegmentTR,
    contrastive_loss,
    ema_update,
    modularity_loss,
    sample_tokens,
)
from refs.cause.modules.segment import nearest_code

log = logging.getLogger(__name__)
SCRIPT = "train_cause"
PHASES = ("codebook", "head", "probe")
EMA_DECAY = 0.99
BANK_PER_CODE = 100
BANK_SAMPLE = 4096
"""Bank features compared with per step. CAUSE compares with the whole bank; a full one (2048 x 100 features)
would take some gigabytes for the similarities of one step. A random part shifts the logarithm of each pair's
denominator by about the same constant, so gradients keep their direction."""
STATISTICS_FRAMES = 100


class WindowSource:
    """Random feature windows of random frames, the same for the same seed.

    Args:
        cache_bytes: memory for whole-image features; only a local backbone can cut windows out of them.
        threads: read and resize the images of other backbones.
    """

    def __init__(
        self, frames: Sequence[Frame], extractor: FeatureExtractor, cache_bytes: int, threads: int = 1
    ) -> None:
        self.frames = frames
        self.extractor = extractor
        self.cache_bytes = cache_bytes
        # Features are cut one after the other: the cache is no place for races.
        self.pool = ThreadPoolExecutor(1 if extractor.backbone.local else max(1, threads))
        self._cache: dict[int, Tensor] = {}

    def batch(self, size: int, generator: torch.Generator) -> Tensor:
        """Return (size, D, w, w) standardised features."""
        picks = torch.randint(len(self.frames), (size,), generator=generator).tolist()
        places = torch.rand(size, 2, generator=generator).tolist()
        cut = self._cut_features if self.extractor.backbone.local else self._cut_image
        parts = list(self.pool.map(cut, picks, places))
        if self.extractor.backbone.local:
            return torch.stack(parts)
        return self.extractor.features(torch.cat(parts))

    def _cut_features(self, index: int, place: Sequence[float]) -> Tensor:
        whole = self._cache.get(index)
        if whole is None:
            whole = self.extractor.features(self.extractor.image(self.frames[index].image))[0]
            if (len(self._cache) + 1) * whole.numel() * 4 < self.cache_bytes:
                self._cache[index] = whole
        return _random_window(whole, self.extractor.window, place)

    def _cut_image(self, index: int, place: Sequence[float]) -> Tensor:
        image = self.extractor.image(self.frames[index].image)
        return _random_window(image, self.extractor.tiling.window, place)


def _random_window(maps: Tensor, side: int, place: Sequence[float]) -> Tensor:
    top, left = (int(at * (length - side + 1)) for at, length in zip(place, maps.shape[-2:], strict=True))
    return maps[..., top : top + side, left : left + side]


def fit_standardizer(frames: Sequence[Frame], extractor: FeatureExtractor) -> Standardizer:
    """Return per-channel mean and deviation (over the backbone's weight) over evenly chosen frames."""
    total = square = torch.zeros(1, dtype=torch.float64)
    count = 0
    step = -(-len(frames) // STATISTICS_FRAMES)
    for frame in tqdm(frames[::step], desc="feature statistics", unit="img"):
        tokens = extractor.features(extractor.image(frame.image)).double().transpose(0, 1).flatten(1)
        total, square = total + tokens.sum(1).cpu(), square + (tokens**2).sum(1).cpu()
        count += tokens.shape[1]
    mean = total / count
    spread = (square / count - mean**2).clamp_min(1e-8).sqrt()
    weights = getattr(extractor.backbone, "channel_weights", torch.ones_like(spread)).cpu()
    return Standardizer(mean.float(), (spread / weights).float()).to(extractor.device)


class Trainer:
    """The three phases; each has its own seed, so that a resumed run equals an uninterrupted one.

    Args:
        progress: keeps the state between two steps.
    """

    def __init__(
        self,
        settings: CauseTraining,
        source: WindowSource,
        segment: SegmentTR,
        cluster: Cluster,
        progress: PhaseProgress,
    ) -> None:
        self.settings = settings
        self.progress = progress
        self.source = source
        self.segment = segment
        self.cluster = cluster
        self.device = source.extractor.device
        side = source.extractor.window
        self.grid = (side, side)

    def steps(self, phase: str) -> int:
        """Return the number of steps of a phase: as asked for, or its epochs (`CauseTraining.steps`)."""
        return self.settings.steps(phase, len(self.source.frames))

    def run(self, phase: str) -> None:
        """Run one phase over its own random stream."""
        seed = self.settings.seed * len(PHASES) + PHASES.index(phase)
        torch.manual_seed(seed)  # dropout has no generator argument
        generator = torch.Generator().manual_seed(seed)
        {"codebook": self._codebook, "head": self._head, "probe": self._probe}[phase](generator)

    def _tokens(self, generator: torch.Generator) -> Tensor:
        features = self.source.batch(self.settings.batch_size, generator)
        return features.flatten(2).transpose(1, 2)

    def _loop(
        self,
        name: str,
        parameters: Sequence[nn.Parameter],
        loss_of: Callable[[], Tensor],
        generator: torch.Generator,
        memory: Mapping[str, Tensor] | None = None,
        clip: float | None = None,
        halve_every: int | None = None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        optimizer = torch.optim.Adam(parameters, lr=self.settings.lr)
        phase = Phase(name, optimizer, generator, memory or {})
        self.progress.restore(phase)
        steps = self.steps(name)
        bar = tqdm(range(phase.step, steps), name, steps, unit="step", initial=phase.step)
        for step in bar:
            if halve_every and step and step % halve_every == 0:
                for group in optimizer.param_groups:
                    group["lr"] *= 0.5
            loss = loss_of()
            if not torch.isfinite(loss):
                raise UserError(
                    f"`lr` {self.settings.lr}: the {name} loss became {loss.item()}; use a lower rate"
                )
            optimizer.zero_grad()
            loss.backward()
            if clip is not None:
                clip_grad_norm_(parameters, clip)
            optimizer.step()
            after()
            mean = loss.item() if phase.mean is None else 0.95 * phase.mean + 0.05 * loss.item()
            bar.set_postfix(loss=f"{mean:.4f}")
            phase.step, phase.mean = step + 1, mean
            if phase.step < steps:  # a phase that is through is saved by who runs it
                self.progress.after_step(phase)

    def _codebook(self, generator: torch.Generator) -> None:
        def loss_of() -> Tensor:
            tokens = self._tokens(generator)
            kept = sample_tokens(tokens, self.grid, generator)
            return modularity_loss(tokens[:, kept], self.cluster.codebook)

        self._loop("codebook", [self.cluster.codebook], loss_of, generator)

    def _head(self, generator: torch.Generator) -> None:
        segment, codebook = self.segment, self.cluster.codebook.detach()
        unit_codebook = F.normalize(codebook, dim=1)
        bank = MemoryBank(
            len(codebook), BANK_PER_CODE, segment.projection_head.f.out_channels, device=self.device
        )

        def loss_of() -> Tensor:
            tokens = self._tokens(generator)
            kept = sample_tokens(tokens, self.grid, generator)
            student = segment.projection_head(segment.head(tokens, codebook, self.grid)[:, kept])
            with torch.no_grad():
                codes = segment.head_ema(tokens, codebook, self.grid)[:, kept]
                teacher = segment.projection_head_ema(codes).flatten(0, 1)
                rows = nearest_code(tokens[:, kept], codebook)
                relation = unit_codebook[rows] @ unit_codebook[rows.flatten()].T
                relation.view(rows.numel(), -1).fill_diagonal_(torch.nan)
            loss = contrastive_loss(student, teacher, relation)
            stored, stored_rows = bank.sample(BANK_SAMPLE, generator)
            if len(stored):
                relation = unit_codebook[rows] @ unit_codebook[stored_rows].T
                loss = (loss + contrastive_loss(student, stored, relation)) / 2
            bank.add(teacher, rows.flatten(), generator)
            return loss

        segment.train()
        # CAUSE leaves dropout on in the teacher too. Off, its targets are those of inference, without noise.
        segment.head_ema.eval()
        parameters = [*segment.head.parameters(), *segment.projection_head.parameters()]
        memory = {"features": bank.features, "count": bank.count}
        self._loop(
            "head",
            parameters,
            loss_of,
            generator,
            memory,
            self.settings.clip,
            after=lambda: ema_update(segment, EMA_DECAY),
        )
        segment.eval()

    def _probe(self, generator: torch.Generator) -> None:
        # Not only after the head's phase in the same process: a run that goes on here has loaded it.
        self.segment.eval()

        def loss_of() -> Tensor:
            tokens = self._tokens(generator)
            kept = sample_tokens(tokens, self.grid, generator)
            with torch.no_grad():
                codes = self.segment.head_ema(tokens, self.cluster.codebook, self.grid)
            return modularity_loss(codes[:, kept], self.cluster.cluster_probe)

        # Half the rate every two of five epochs (CAUSE), in steps.
        halve_every = max(1, self.steps("probe") * 2 // 5)
        self._loop("probe", [self.cluster.cluster_probe], loss_of, generator, halve_every=halve_every)


def build_heads(settings: CauseTraining, extractor: FeatureExtractor) -> tuple[SegmentTR, Cluster]:
    """Return untrained heads for the backbone, seeded."""
    torch.manual_seed(settings.seed)
    dim = int(extractor.backbone.embed_dim)  # type: ignore[arg-type]
    reduced, classes = settings.reduced_dim, settings.num_classes
    segment = SegmentTR(
        dim, reduced, settings.projection_dim, classes, extractor.window**2, settings.hidden_dim
    )
    cluster = Cluster(dim, reduced, settings.codebook_size, classes)
    return segment.to(extractor.device), cluster.to(extractor.device)


def train_cause(source: FrameSource, settings: CauseTraining, run: RunOptions) -> Path:
    """Train the heads without labels and return their folder; phases that it holds already are not repeated.

    Raises:
        UserError: missing weights of the backbone, or a folder with published heads or another run's.
        Stopped: a signal asked for it; the phase is saved.
    """
    folder = own_heads(settings, run.root(source))
    settings = replace(settings, backbone=settings.extractor)
    if not run.overwrite and holds_earlier_heads(folder, source, settings):
        log.warning("%s: kept as an earlier version trained them; `overwrite` trains them anew", folder)
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    source = readable(source, run)
    name = settings.extractor
    weights = backbone_weights(name, backbone_file(settings, folder, name))
    content = training_provenance(source, settings, run.root(source), script=SCRIPT, weights=weights)
    with only_training(folder):
        write_json(folder / PROVENANCE, check_folder(folder, settings, content, run.overwrite))
        with StopSignals() as stop:
            _train(source.frames(), settings, folder, stop)
    log.info("heads: %s", folder)
    return folder


def _train(frames: Sequence[Frame], settings: CauseTraining, folder: Path, stop: StopSignals) -> None:
    """Run the phases that `folder` does not hold yet and write the heads."""
    extractor = build_extractor(settings, folder, {})
    wanted = extractor.name == TEXTON or is_own(extractor.name)  # features without negative values
    if settings.standardize == "on" or (settings.standardize == "auto" and wanted):
        extractor = replace(extractor, standardizer=fit_standardizer(frames, extractor))
    segment, cluster = build_heads(settings, extractor)
    windows = WindowSource(frames, extractor, int(settings.cache_gb * 2**30), settings.num_workers)
    both = nn.ModuleDict({"segment": segment, "cluster": cluster})
    progress = PhaseProgress(folder / PROGRESS, both, settings.save_minutes, stop)
    trainer = Trainer(settings, windows, segment, cluster, progress)
    for phase in PHASES[_phases_done(folder, both) :]:
        trainer.run(phase)
        write_file(_after(folder, phase), both.state_dict())
        progress.clear()
        if stop.received:
            raise Stopped(f"stopped after phase {phase}; the same command goes on", stop.received)
    save_heads(folder, segment, cluster, describe(settings, extractor, len(frames)))


def _after(folder: Path, phase: str) -> Path:
    """Return where the networks are kept as they were at the end of a phase."""
    return folder / f"after_{phase}.pth"


def _phases_done(folder: Path, both: nn.Module) -> int:
    """Load the networks as the last phase left them whose file is whole; return how many phases are through.

    Raises:
        UserError: there are such files, but none is whole.
    """
    kept = [_after(folder, phase) for phase in reversed(PHASES)]
    newest = newest_whole(kept)
    if newest is None:
        return 0
    found, state = newest
    load_state(both, state, found, "add `overwrite`, or give another `checkpoint_dir`")
    log.info("done before, loaded %s", found)
    return len(PHASES) - kept.index(found)


def describe(settings: CauseTraining, extractor: FeatureExtractor, num_frames: int) -> dict[str, Any]:
    """Return what `settings.json` holds: what inference needs, and what the heads were trained with."""
    stored: dict[str, Any] = {"backbone": extractor.name, "tiling": asdict(extractor.tiling)}
    if extractor.standardizer is not None:
        stored["mean"] = np.round(extractor.standardizer.mean.tolist(), 6).tolist()
        stored["std"] = np.round(extractor.standardizer.std.tolist(), 6).tolist()
        stored[STANDARDIZER_DIGEST] = digest_of([stored["mean"], stored["std"]])
    return {**stored, "training": settings_of(settings), "frames": num_frames}


def holds_earlier_heads(folder: Path, source: FrameSource, settings: CauseTraining) -> bool:
    """Return whether an earlier version trained these heads: with another loss and a fifth of an epoch.

    Such heads stay good to use. With other settings, `check_folder` says so.

    Raises:
        UserError: that training was cut off; half of one loss and half of another would be neither.
    """
    then = (read_provenance(folder) or {}).get("arguments", {})
    now = {**settings_of(settings), "split": source.split, "max_images": source.max_images}
    if not then or "crops" in then or any(then.get(key, now[key]) != now[key] for key in now):
        return False
    if (folder / SEGMENT).is_file():
        return True
    raise UserError(
        f"{folder}: a training that an earlier version began, with another loss; add `overwrite`, or give "
        "another `checkpoint_dir`"
    )


def check_folder(
    folder: Path, settings: CauseTraining, content: dict[str, Any], overwrite: bool
) -> dict[str, Any]:
    """Return the folder's provenance, compared with that of its run; clear that run with `overwrite`.

    Args:
        content: `provenance.json` of this run.

    Raises:
        UserError: published heads, which are not overwritten by chance, or another run's.
    """
    earlier = read_provenance(folder)
    if overwrite:
        states = [*(folder / name for name in STATES), *(_after(folder, phase) for phase in PHASES)]
        for path in (*states, *([folder / SEGMENT, folder / CLUSTER] if earlier else [])):
            path.unlink(missing_ok=True)
    elif earlier is not None:
        return continued_training(folder, earlier, content, settings_of(settings))
    elif (folder / SEGMENT).is_file():
        raise UserError(f"{folder / SEGMENT}: heads not trained here; give another `checkpoint_dir`")
    return content
