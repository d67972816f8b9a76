"""The state of a training in phases between two of its steps, so that it goes on at that very step."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cups.errors import Stopped, UserError
from cups.io.checkpoint import read_file, write_file
from cups.io.durable import keep_previous
from cups.training.stopping import Clock, StopSignals

log = logging.getLogger(__name__)
FILE_NAME, PREVIOUS = "training.pth", "training_previous.pth"
STATES = (FILE_NAME, PREVIOUS)


@dataclass(eq=False)
class Phase:
    """What one phase consists of, beside the networks.

    Attributes:
        generator: all its draws that are not torch's own.
        memory: further tensors, changed in place.
        step: steps done.
        mean: of the loss, as shown; None before the first step.
    """

    name: str
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    step: int = 0
    mean: float | None = None


class PhaseProgress:
    """Saves a phase every few minutes and when a signal asks the training to stop.

    The save before the newest stays beside it, for the case that the newest is damaged.

    Args:
        path: of the file.
        modules: all networks of the training.
        minutes: between two saves; 0 saves every step.
        stop: entered for the time of the training.
    """

    def __init__(self, path: Path, modules: nn.Module, minutes: float, stop: StopSignals) -> None:
        self.path, self.modules, self.stop = path, modules, stop
        self.clock = Clock(minutes)

    def restore(self, phase: Phase) -> None:
        """Set networks and phase as they were saved; without a save of this phase, leave them.

        Raises:
            UserError: all saves are damaged, or of another training.
        """
        newest = newest_whole([self.path, self.path.with_name(PREVIOUS)])
        held = {} if newest is None else newest[1]
        if not isinstance(held, dict) or held.get("phase") != phase.name:
            return
        try:
            self.modules.load_state_dict(held["modules"])
            phase.optimizer.load_state_dict(held["optimizer"])
            for name, tensor in phase.memory.items():
                tensor.copy_(held["memory"][name])
            phase.generator.set_state(held["generator"])
            _set_random_state(held["torch"])
            phase.step, phase.mean = held["step"], held["mean"]
        except (KeyError, RuntimeError, ValueError, TypeError):
            raise UserError(f"{self.path}: of another training; remove it, or add `overwrite`") from None

    def after_step(self, phase: Phase) -> None:
        """Save the phase if it is due.

        Raises:
            Stopped: a signal asks for it; it is saved.
        """
        number = self.stop.received
        if not number and not self.clock.is_due:
            return
        keep_previous(self.path, self.path.with_name(PREVIOUS))
        write_file(self.path, self._state(phase))
        self.clock.restart()
        if number:
            told = f"stopped at step {phase.step} of phase {phase.name}; the same command goes on"
            raise Stopped(told, number)

    def _state(self, phase: Phase) -> dict[str, Any]:
        return {
            "phase": phase.name,
            "step": phase.step,
            "mean": phase.mean,
            "modules": self.modules.state_dict(),
            "optimizer": phase.optimizer.state_dict(),
            "memory": dict(phase.memory),
            "generator": phase.generator.get_state(),
            "torch": _random_state(),
        }

    def clear(self) -> None:
        """Remove the saves of a phase that is through."""
        for name in STATES:
            self.path.with_name(name).unlink(missing_ok=True)


def newest_whole(paths: Sequence[Path]) -> tuple[Path, dict[str, Any]] | None:
    """Return the first file of `paths`, newest first, that is whole, and its content; None without any file.

    Damaged ones are named in a warning.

    Raises:
        UserError: there are files, but none is whole: nothing is started over them.
    """
    damaged: UserError | None = None
    for path in paths:
        if not path.is_file():
            continue
        try:
            content = read_file(path)
            if not isinstance(content, dict):
                raise UserError(f"{path}: holds no state of a training; remove it")
        except UserError as error:
            damaged = damaged or error
        else:
            if damaged is not None:
                log.warning("%s; the training goes on from %s", damaged, path)
            return path, content
    if damaged is not None:
        raise UserError(f"{damaged} (no other save is whole); `overwrite` trains anew")
    return None


def _random_state() -> dict[str, Any]:
    """Return the state of torch's own generators."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) == torch.cuda.device_count():  # on other hardware the draws are others anyway
        torch.cuda.set_rng_state_all(state["cuda"])
