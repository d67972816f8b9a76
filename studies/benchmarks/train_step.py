"""Images per second of a Stage-2 training step: ours, plain detectron2, and the habits of upstream."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from cups.backbones import autocast
from cups.io.files import write_json
from cups.io.markdown import markdown_table
from cups.model import panoptic_cascade_mask_r_cnn
from cups.model.inputs import batch_to_detectron2
from cups.model.model import load_config
from cups.model.speed import set_speed
from cups.structures import Sample
from pseudo_labels.steps.flags import settings_of
from studies.benchmarks.settings import TrainStepSettings
from studies.measure import machine_line

PLAIN_PARTS = {
    "MODEL.META_ARCHITECTURE": "PanopticFPN",
    "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
    "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    "MODEL.SEM_SEG_HEAD.NAME": "SemSegFPNHead",
}
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
Batch = list[Sample]
Step = Callable[[Batch], None]
Maker = Callable[[nn.Module], Step]


def street(size: tuple[int, int], things: int, stuffs: int, objects: int, seed: int) -> Sample:
    """Return a frame of rectangles: `objects` disjoint instances before bands of stuff."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    bands = torch.randint(1, stuffs + 1, (8,), generator=generator).repeat_interleave(-(-height // 8))
    sem_seg = bands[:height, None].expand(height, width).clone()
    masks = torch.zeros((objects, height, width), dtype=torch.bool)
    for number, mask in enumerate(masks):
        left, right = (int(width * (number + part) / objects) for part in (0.1, 0.9))
        top = int(torch.randint(0, height // 2, (), generator=generator))
        mask[top : top + height // 4, left:right] = True
    image = torch.rand((3, height, width), generator=generator) * 0.2 + sem_seg / (2 * stuffs)
    sem_seg[masks.any(dim=0)] = 0
    return Sample(image, sem_seg, masks, torch.randint(0, things, (objects,), generator=generator))


def plain_network(ours: nn.Module, settings: TrainStepSettings) -> nn.Module:
    """Build detectron2's own classes from the same model config, with the weights of our network."""
    from detectron2.modeling import build_model

    cfg = load_config(settings.config, settings.overrides)
    cfg.merge_from_list([part for pair in PLAIN_PARTS.items() for part in pair])
    cfg.MODEL.DEVICE = settings.device
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = settings.things
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = settings.stuffs + 1
    for node in (cfg.MODEL.RESNETS, cfg.MODEL.FPN):
        node.NORM = "BN" if node.NORM == "SyncBN" else node.NORM
    plain: nn.Module = build_model(cfg)
    plain.load_state_dict(ours.state_dict())
    return plain


def our_network(settings: TrainStepSettings) -> nn.Module:
    """Build our network with seeded random weights."""
    torch.manual_seed(settings.seed)
    return panoptic_cascade_mask_r_cnn(
        settings.things,
        settings.stuffs + 1,
        model_config=settings.config,
        model_overrides=settings.overrides,
        device=settings.device,
    )


def losses_of(model: nn.Module, batch: Batch, settings: TrainStepSettings) -> dict[str, torch.Tensor]:
    """Return the named losses of a batch, computed in the number format of the settings."""
    from detectron2.utils.events import EventStorage

    with EventStorage(), autocast(torch.device(settings.device), FORMATS[settings.precision]):
        losses: dict[str, torch.Tensor] = model(batch_to_detectron2(batch))
    return losses


def training_step(model: nn.Module, settings: TrainStepSettings) -> Step:
    """Return forward, backward and optimiser of a network on a batch."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        torch.stack(list(losses_of(model, batch, settings).values())).sum().backward()
        optimizer.step()

    return step


@torch.no_grad()
def infer(model: nn.Module, batch: Batch, settings: TrainStepSettings) -> None:
    """Run all of inference on the clean batch."""
    model.eval()
    with autocast(torch.device(settings.device), FORMATS[settings.precision]):
        model([{"image": sample.image} for sample in batch])
    model.train()


def pasting_step(ours: nn.Module, settings: TrainStepSettings) -> Step:
    """Return our step with what it does from `AUGMENTATION.NUM_STEPS_STARTUP` on: it detects objects too."""
    step = training_step(ours, settings)

    def pasting(batch: Batch) -> None:
        step(batch)
        network: Any = ours.eval()
        with autocast(torch.device(settings.device), FORMATS[settings.precision]):
            network.find_objects([{"image": sample.image} for sample in batch], 0.75)
        network.train()

    return pasting


def upstream_step(ours: nn.Module, settings: TrainStepSettings) -> Step:
    """Return our step with a deep copy of the batch and all of inference on the clean one."""
    step = training_step(ours, settings)

    def upstream(batch: Batch) -> None:
        step(deepcopy(batch))
        infer(ours, batch, settings)

    return upstream


def makers(settings: TrainStepSettings) -> dict[str, Maker]:
    """Return, by name, what makes of our network the step of each contender."""

    def sped_up(model: nn.Module, channels_last: bool) -> Step:
        model = set_speed(deepcopy(model), channels_last=channels_last, compile_trunk=not channels_last)
        return training_step(model, settings)

    named: dict[str, Maker] = {
        "ours": lambda ours: training_step(ours, settings),
        "ours, pasting own finds": lambda ours: pasting_step(ours, settings),
        "upstream's habits": lambda ours: upstream_step(ours, settings),
        "plain detectron2": lambda ours: training_step(plain_network(ours, settings), settings),
    }
    if settings.channels_last:
        named["ours, channels last"] = lambda ours: sped_up(ours, channels_last=True)
    if settings.compile:
        named["ours, compiled trunk"] = lambda ours: sped_up(ours, channels_last=False)
    return named


def contenders(settings: TrainStepSettings) -> dict[str, Step]:
    """Build all networks; return what each does with a batch."""
    ours = our_network(settings)
    return {name: make(ours) for name, make in makers(settings).items()}


def draw_batch(settings: TrainStepSettings, number: int) -> Batch:
    """Return the batch of a number, on the device."""
    seeds = range(number * settings.batch_size, (number + 1) * settings.batch_size)
    sizes = (settings.shape, settings.things, settings.stuffs, settings.objects)
    return [street(*sizes, seed).to(settings.device) for seed in seeds]


def seconds(step: Step, batch: Batch, device: str) -> float:
    """Return the wall time of one step."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step(batch)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def run(settings: TrainStepSettings) -> dict[str, dict[str, Any]]:
    """Measure all contenders in turns; return median images/s and all times of each."""
    steps = contenders(settings)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(settings.repeats + 1):
        batch = draw_batch(settings, repeat)
        for name, step in steps.items():
            torch.manual_seed(repeat)
            times[name].append(seconds(step, batch, settings.device))
    return {
        # The first round warms up.
        name: {"images_per_second": settings.batch_size / statistics.median(part[1:]), "seconds": part[1:]}
        for name, part in times.items()
    }


def markdown(results: dict[str, dict[str, Any]], settings: TrainStepSettings) -> str:
    """Return the table with the setting above and the machine below it."""
    height, width = settings.shape
    base = results["ours"]["images_per_second"]
    rows = [
        (name, f"{row['images_per_second']:.3g}", f"{row['images_per_second'] / base:.2f}x")
        for name, row in results.items()
    ]
    setting = (
        f"{settings.config}, batch of {settings.batch_size}, {height}x{width} pixels, "
        f"{settings.objects} objects, {settings.things} things and {settings.stuffs} stuff, "
        f"{settings.device}, {settings.precision}, {torch.get_num_threads()} threads, "
        f"median of {settings.repeats}."
    )
    table = markdown_table(rows, ("", "images/s", "against ours"))
    return "\n".join([setting, "", table, "", machine_line()])


def compare(settings: TrainStepSettings) -> int:
    """Measure and print the table."""
    if settings.device == "auto":
        settings = replace(settings, device="cuda" if torch.cuda.is_available() else "cpu")
    results = run(settings)
    print(markdown(results, settings))
    if settings.json:
        setting = {key: value for key, value in settings_of(settings).items() if key != "json"}
        content = {"machine": machine_line(), "setting": setting, "results": results}
        write_json(settings.json, content)
    return 0
