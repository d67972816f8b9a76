"""Section SYSTEM: the machine, the run folder, the loggers."""

from __future__ import annotations

from cups.allowed import NAME, PATH, SEED, SWITCH, TEXT, WORKERS, choice, optional, whole
from cups.configuration.key import Key

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")

SYSTEM = {
    "ACCELERATOR": Key("auto", choice(ACCELERATORS), "Lightning's name of the hardware."),
    "NUM_GPUS": Key(1, whole(1, 1024), "GPUs on each node; on CPU, processes."),
    "NUM_NODES": Key(1, whole(1, 1024), "Nodes of the run."),
    "NUM_WORKERS": Key(8, WORKERS, "Loader processes for each GPU; 0 loads in the process itself."),
    "DISTRIBUTED_BACKEND": Key("auto", choice(STRATEGIES), "Lightning's strategy."),
    "LOG_PATH": Key("experiments", PATH, "Folder of all runs."),
    "RUN_NAME": Key(
        None, optional(NAME, "None (the time of the start)"), "Folder of the run inside LOG_PATH."
    ),
    "SEED": Key(1996, SEED, "Seeds weights, sampling and augmentation."),
    "WANDB": Key(True, SWITCH, "Log to Weights & Biases, beside CSV and TensorBoard files."),
    "WANDB_PROJECT": Key("Unsupervised Panoptic Segmentation", TEXT, "Project there."),
}
