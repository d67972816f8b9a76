"""Safe loading of every checkpoint format this project meets.

A checkpoint is data, not a program: tensors are read with `weights_only=True`, Detectron2 pickles through an
unpickler that knows numpy arrays and plain containers only. Nothing named inside a file is ever executed.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cups.errors import UserError
from cups.io.archives import check_archive
from cups.io.backed import require_backed
from cups.io.durable import sync_file, sync_folder
from cups.io.files import atomic_write
from cups.io.limits import AGAIN, check_file
from cups.io.model_folder import CONFIG_FILE, FIX, config_beside, read_config, weights_file
from cups.io.weights import SAFE_SUFFIX, stored_at

logger = logging.getLogger(__name__)

State = dict[str, Tensor]

TEACHER_PREFIX = "teacher_model."
WRAPPER_PREFIXES = ("model.", "module.", "_orig_mod.")
THING_BIAS = "roi_heads.mask_head.predictor.bias"
STUFF_BIAS = "sem_seg_head.predictor.bias"


@dataclass(frozen=True)
class Checkpoint:
    """Weights of one network and what was stored beside them.

    Attributes:
        path: the file.
        state: parameter name -> tensor, names as in the bare network.
        hyper_parameters: plain containers (a Lightning module's), empty if there are none.
    """

    path: Path
    state: State
    hyper_parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def provenance(self) -> dict[str, Any]:
        """What the training that wrote the file said of its labels and weights; empty if it said nothing."""
        return self.section("provenance")

    def section(self, *names: str) -> dict[str, Any]:
        """Return a mapping within the hyper-parameters by its path; empty where there is none."""
        return section(self.hyper_parameters, *names)


def section(content: Any, *names: str) -> dict[str, Any]:
    """Return a mapping within mappings by its path; empty where there is none, or something else."""
    for name in names:
        content = content.get(name) if isinstance(content, Mapping) else None
    return dict(content) if isinstance(content, Mapping) else {}


def _config_stand_in(module: str) -> type:
    """Make the class that takes the place of a pickled yacs config.

    It makes ordered dicts, because torch's safe unpickler fills no other subclass of dict.
    """
    members = {"__module__": module, "__qualname__": "CfgNode", "__new__": lambda cls: OrderedDict()}
    return type("CfgNode", (), members)


CONFIG_STAND_INS = [
    _config_stand_in(module) for module in ("yacs.config", "fvcore.common.config", "detectron2.config.config")
]


class _ArrayUnpickler(pickle._Unpickler):
    """Unpickler of numpy arrays and plain containers; any other class in the file is an error.

    The one in Python: that in C takes memory for as much as a damaged number in the file says.
    """

    ALLOWED = frozenset(
        {("numpy", "ndarray"), ("numpy", "dtype"), ("collections", "OrderedDict"), ("_codecs", "encode")}
        | {
            (f"numpy.{core}.{module}", name)
            for core in ("core", "_core")
            for module, name in (
                ("multiarray", "_reconstruct"),
                ("multiarray", "scalar"),
                ("numeric", "_frombuffer"),
            )
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        if module.startswith("numpy."):
            # Files of either numpy generation open under the other: only the folder was renamed.
            core = "_core" if hasattr(np, "_core") else "core"
            module = re.sub(r"^numpy\._?core\b", f"numpy.{core}", module)
        return super().find_class(module, name)


def read_file(
    path: str | Path, fix: str = "check MODEL.CHECKPOINT or the path given", mapped: bool = False
) -> Any:
    """Read a `.pkl` (arrays), `.safetensors` or any torch file (tensors) as plain data.

    Where only a safetensors file lies beside `path`, that is read.

    Args:
        fix: what to do about a missing file, for the error.
        mapped: leave the tensors of a torch file on the disk until they are used.

    Raises:
        UserError: for a missing, damaged or foreign file, and for one that holds anything but data.
    """
    path = stored_at(Path(path))
    check_file(path, fix)
    if path.suffix == SAFE_SUFFIX:
        return _read_safetensors(path)
    return _read_pickle(path) if path.suffix == ".pkl" else _read_torch(path, mapped)


def write_file(path: Path, content: Any) -> None:
    """Write plain data as a torch file, atomically; the same content gives the same bytes.

    It is on the disk before the name is: a power cut leaves this file or the one before it, never half.
    Through an open file, for torch writes the name of a file that it opens itself into it.
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            torch.save(content, file)
            sync_file(file)

    atomic_write(path, write)
    sync_folder(path.parent)


def load_tensors(
    path: Path, fix: str = "see refs/weights.yaml for its source", beside: Collection[str] = ()
) -> dict[str, Any]:
    """Read a state dict without running code from the file.

    Args:
        fix: what to do about a missing file, for the error.
        beside: names of what may be no tensor.

    Raises:
        UserError: missing file, or not a dict of tensors.
    """
    content = read_file(path, fix)
    if not isinstance(content, dict) or not all(
        isinstance(value, Tensor) or name in beside for name, value in content.items()
    ):
        raise UserError(f"{path}: holds no state dict; give the published checkpoint")
    return content


def load_state(
    module: nn.Module, state: Mapping[str, Tensor], path: Path, fix: str, assign: bool = False
) -> None:
    """Load a state dict whose names and shapes must all fit.

    Args:
        path: file that it was read from, for the error.
        fix: what to do about one that does not fit.
        assign: take the tensors as they are, for modules without storage of their own.

    Raises:
        UserError: any missing, unexpected or differently shaped entry.
    """
    try:
        module.load_state_dict(state, strict=True, assign=assign)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: weights of another network ({detail}); {fix}") from None


def _read_pickle(path: Path) -> Any:
    try:
        with path.open("rb") as handle:
            return _ArrayUnpickler(handle, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: refused, {error}; a weights file holds numpy arrays only and may not run code, "
            "so get it from its publisher again"
        ) from error
    except Exception as error:  # damaged pickles raise nearly anything
        raise UserError(f"{path}: not a readable pickle ({_short(error)}); download it again") from error


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError, ValueError) as error:  # KeyError: a type that torch lacks
        raise UserError(f"{path}: not a readable safetensors file ({_short(error)}); get it again") from error


def _read_torch(path: Path, mapped: bool) -> Any:
    check_archive(path)
    try:
        with torch.serialization.safe_globals([*CONFIG_STAND_INS]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        unsafe = re.search(r"\bGLOBAL ([\w.]+)", str(error))
        reason = (
            f"refused, it names {unsafe.group(1)}, which is not data; save the state_dict alone"
            if unsafe
            else "not a checkpoint that torch can read; download or save it again"
        )
        raise UserError(f"{path}: {reason}") from error
    except Exception as error:  # damaged archives raise RuntimeError, EOFError, KeyError, ...
        raise UserError(f"{path}: not a readable checkpoint ({_short(error)}); {AGAIN}") from error
    require_backed(content, path)
    return content


def _short(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:120]}" if text else type(error).__name__


def plain(value: Any) -> Any:
    """Turn (stand-in) config nodes inside containers into plain dicts, lists and tuples."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value) if type(value) in (list, tuple) else value
    return value


def load_checkpoint(path: str | Path, prefer_teacher: bool = False) -> Checkpoint:
    """Read network weights: Lightning checkpoint, `{"model": ...}`, bare dict of tensors, published folder.

    Wrapper prefixes ("model.", "module.", ...) are taken off the front of the names. Of a self-training
    checkpoint the student is taken, or the teacher when `prefer_teacher` (the student if there is none).

    Raises:
        UserError: if the file cannot be read or holds no tensors.
    """
    path, folder = weights_file(path), Path(path)
    if path != folder and config_beside(path) is None:
        raise UserError(
            f"{folder}: no published network of ours (no {CONFIG_FILE} of one); give a file, or {FIX}"
        )
    content = read_file(path)
    if (config := config_beside(path)) is not None:
        content = {"state_dict": content, "hyper_parameters": read_config(config)}
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a dict of weights; give a checkpoint")
    weights = next((content[key] for key in ("state_dict", "model") if _is_dict(content.get(key))), content)
    tensors = {str(name): as_tensor(value) for name, value in weights.items() if _is_array(value)}
    teacher = {name: value for name, value in tensors.items() if name.startswith(TEACHER_PREFIX)}
    student = {name: value for name, value in tensors.items() if name not in teacher}
    if prefer_teacher and not teacher:
        logger.warning("%s: no teacher weights; the student's are used", path)
    chosen = teacher if prefer_teacher and teacher else student
    if not chosen:
        raise UserError(f"{path}: holds no tensors; give a checkpoint with a state_dict")
    hyper_parameters = content.get("hyper_parameters")
    return Checkpoint(
        path=path,
        state={_bare_name(name): value for name, value in chosen.items()},
        hyper_parameters=plain(hyper_parameters) if _is_dict(hyper_parameters) else {},
    )


def weights_digest(checkpoint: Checkpoint) -> str:
    """Return a SHA-256 of a checkpoint's weights, names and numbers, whatever else its file holds.

    A run that is started again once it is through writes its file anew; its weights stay.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(checkpoint.state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_dict(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray))


def as_tensor(value: Tensor | np.ndarray) -> Tensor:
    """Return the value as a tensor (arrays are copied: a pickle's memory may be read-only)."""
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))


def _bare_name(name: str) -> str:
    name = name.removeprefix(TEACHER_PREFIX)
    while name.startswith(WRAPPER_PREFIXES):
        name = name.split(".", 1)[1]
    return name


def class_counts(state: Mapping[str, Tensor], path: str | Path = "checkpoint") -> tuple[int, int]:
    """Return (things, stuffs) of a panoptic network's weights, from the length of its predictors' biases.

    Stuffs does not count the semantic head's "some thing" channel.

    Raises:
        UserError: if the weights are not those of a panoptic network.
    """
    missing = [name for name in (THING_BIAS, STUFF_BIAS) if name not in state]
    if missing:
        raise UserError(
            f"{path}: not a panoptic network's checkpoint (no {missing[0]}); "
            "backbone weights go to MODEL.BACKBONE_CHECKPOINT"
        )
    return len(state[THING_BIAS]), len(state[STUFF_BIAS]) - 1


def load_into(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy the weights into the panoptic network; every tensor must fit.

    Raises:
        UserError: for other class counts or another architecture.
    """
    model.load_state_dict(fitting_state(model, checkpoint), strict=True)


def fitting_state(model: nn.Module, checkpoint: Checkpoint) -> State:
    """Return the weights as the panoptic network takes them, which may be one without storage.

    BatchNorm counters may be absent (frozen-norm checkpoints) or superfluous.

    Raises:
        UserError: for other class counts or another architecture.
    """
    own = model.state_dict()
    found, wanted = class_counts(checkpoint.state, checkpoint.path), class_counts(own, checkpoint.path)
    if found != wanted:
        raise UserError(
            f"{checkpoint.path}: made for {found[0]} thing and {found[1]} stuff pseudo-classes, but the "
            f"network has {wanted[0]} and {wanted[1]}; use its own pseudo-labels or another checkpoint"
        )
    state = {name: value for name, value in checkpoint.state.items() if name in own or not is_counter(name)}
    for name, value in own.items():
        if is_counter(name):
            state.setdefault(name, value)
    problems = differences(own, state)
    if problems:
        raise UserError(
            f"{checkpoint.path}: weights of another network ({problems}); "
            "set the model config it was trained with"
        )
    return state


def is_counter(name: str) -> bool:
    """Return whether a name is that of a BatchNorm counter, which weights may lack."""
    return name.endswith("num_batches_tracked")


def differences(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return in a few words how weights differ from a network's in names and shapes; empty where they fit."""
    other = [name for name in own if name in state and own[name].shape != state[name].shape]
    groups = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": other,
    }
    return ", ".join(f"{len(names)} {kind}, as {names[0]}" for kind, names in groups.items() if names)
