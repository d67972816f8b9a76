"""Images per second of a Stage-2 training step: ours, plain detectron2, and the habits of upstream.

    python benchmarks/train_step.py --size 640 1280 --batch_size 2 --repeats 5

All networks are of one model config with the same weights and see the same batches; the repetitions take
turns, so that whatever else the machine does meets all of them. A step is forward, backward and AdamW.

- ours: the step of Stage 2.
- ours, pasting own finds: after `AUGMENTATION.NUM_STEPS_STARTUP` steps, detection on the clean batch feeds
  copy-paste.
- upstream's habits: our network, but at every step the batch is deep-copied and all of inference is run on
  the clean one, used or not.
- plain detectron2: its own PanopticFPN, RPN, CascadeROIHeads, ROIAlign and semantic loss.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cups.io.markdown import markdown_table
from cups.model import panoptic_cascade_mask_r_cnn, to_detectron2
from cups.model.model import load_config
from cups.model.speed import set_speed
from cups.structures import Sample
from studies.measure import machine_line

PLAIN_PARTS = {
    "MODEL.META_ARCHITECTURE": "PanopticFPN",
    "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
    "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
    "MODEL.SEM_SEG_HEAD.NAME": "SemSegFPNHead",
}
Batch = list[Sample]
Step = Callable[[Batch], None]


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


def plain_network(ours: nn.Module, arguments: argparse.Namespace) -> nn.Module:
    """Build detectron2's own classes from the same model config, with the weights of our network."""
    from detectron2.modeling import build_model

    cfg = load_config(arguments.config, [part for pair in PLAIN_PARTS.items() for part in pair])
    cfg.MODEL.DEVICE = arguments.device
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = arguments.things
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = arguments.stuffs + 1
    for node in (cfg.MODEL.RESNETS, cfg.MODEL.FPN):
        node.NORM = "BN" if node.NORM == "SyncBN" else node.NORM
    plain: nn.Module = build_model(cfg)
    plain.load_state_dict(ours.state_dict())
    return plain


def training_step(model: nn.Module) -> Step:
    """Return forward, backward and optimiser of a network on a batch."""
    from detectron2.utils.events import EventStorage

    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        with EventStorage():
            losses: dict[str, torch.Tensor] = model([to_detectron2(sample) for sample in batch])
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    return step


@torch.no_grad()
def infer(model: nn.Module, batch: Batch) -> None:
    """Run all of inference on the clean batch."""
    model.eval()
    model([{"image": sample.image} for sample in batch])
    model.train()


def contenders(arguments: argparse.Namespace) -> dict[str, Step]:
    """Build all networks; return what each does with a batch."""
    torch.manual_seed(arguments.seed)
    ours = panoptic_cascade_mask_r_cnn(
        arguments.things, arguments.stuffs + 1, model_config=arguments.config, device=arguments.device
    )
    step = training_step(ours)

    def pasting(batch: Batch) -> None:
        step(batch)
        network: Any = ours.eval()
        network.find_objects([{"image": sample.image} for sample in batch], 0.75)
        network.train()

    def upstream(batch: Batch) -> None:
        step(deepcopy(batch))
        infer(ours, batch)

    steps: dict[str, Step] = {"ours": step, "ours, pasting own finds": pasting, "upstream's habits": upstream}
    steps["plain detectron2"] = training_step(plain_network(ours, arguments))
    if arguments.channels_last:
        steps["ours, channels last"] = training_step(
            set_speed(deepcopy(ours), channels_last=True, compile_trunk=False)
        )
    if arguments.compile:
        steps["ours, compiled trunk"] = training_step(
            set_speed(deepcopy(ours), channels_last=False, compile_trunk=True)
        )
    return steps


def seconds(step: Step, batch: Batch, device: str) -> float:
    """Return the wall time of one step."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step(batch)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def run(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Measure all contenders in turns; return median images/s and all times of each."""
    size = tuple(arguments.size)
    steps = contenders(arguments)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(arguments.repeats + 1):
        seeds = range(repeat * arguments.batch_size, (repeat + 1) * arguments.batch_size)
        batch = [
            street(size, arguments.things, arguments.stuffs, arguments.objects, seed).to(arguments.device)
            for seed in seeds
        ]
        for name, step in steps.items():
            torch.manual_seed(repeat)
            times[name].append(seconds(step, batch, arguments.device))
    return {
        # The first round warms up.
        name: {"images_per_second": arguments.batch_size / statistics.median(part[1:]), "seconds": part[1:]}
        for name, part in times.items()
    }


def markdown(results: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> str:
    """Return the table with the setting above and the machine below it."""
    height, width = arguments.size
    base = results["ours"]["images_per_second"]
    rows = [
        (name, f"{row['images_per_second']:.3g}", f"{row['images_per_second'] / base:.2f}x")
        for name, row in results.items()
    ]
    setting = (
        f"{arguments.config}, batch of {arguments.batch_size}, {height}x{width} pixels, "
        f"{arguments.objects} objects, {arguments.things} things and {arguments.stuffs} stuff, "
        f"{arguments.device}, float32, {torch.get_num_threads()} threads, median of {arguments.repeats}."
    )
    table = markdown_table(rows, ("", "images/s", "against ours"))
    return "\n".join([setting, "", table, "", machine_line()])


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--size", type=int, nargs=2, default=(640, 1280), metavar=("H", "W"), help="pixels of an image"
    )
    parser.add_argument("--batch_size", type=int, default=2, help="images per step")
    parser.add_argument("--repeats", type=int, default=5, help="steps of each; their median counts")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda"
    )
    parser.add_argument("--config", default="Panoptic-Cascade-Mask-R-CNN.yaml", help="model YAML")
    parser.add_argument("--things", type=int, default=8, help="thing pseudo-classes")
    parser.add_argument("--stuffs", type=int, default=19, help="stuff pseudo-classes")
    parser.add_argument("--objects", type=int, default=12, help="instances in an image")
    parser.add_argument("--channels_last", action="store_true", help="measure TRAINING.CHANNELS_LAST too")
    parser.add_argument("--compile", action="store_true", help="measure TRAINING.COMPILE too")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights")
    parser.add_argument("--json", type=Path, help="also write all numbers to this file")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure and print the table."""
    arguments = parse(argv)
    results = run(arguments)
    print(markdown(results, arguments))
    if arguments.json:
        setting = {key: value for key, value in vars(arguments).items() if key != "json"}
        content = {"machine": machine_line(), "setting": setting, "results": results}
        arguments.json.write_text(json.dumps(content, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
