"""Section SYSTEM: the machine, the run folder, the loggers."""

from __future__ import annotations

from cups.configuration.key import NOT_NEGATIVE, POSITIVE, SWITCH, TEXT, Key, optional

SYSTEM = {
    "ACCELERATOR": Key("auto", TEXT, "Lightning's name of the hardware: auto, cpu, gpu, ..."),
    "NUM_GPUS": Key(1, POSITIVE, "GPUs on each node; on CPU, processes."),
    "NUM_NODES": Key(1, POSITIVE, "Nodes of the run."),
    "NUM_WORKERS": Key(8, NOT_NEGATIVE, "Loader processes for each GPU; 0 loads in the process itself."),
    "DISTRIBUTED_BACKEND": Key("auto", TEXT, "Lightning's strategy: auto, ddp, ..."),
    "LOG_PATH": Key("experiments", TEXT, "Folder of all runs."),
    "RUN_NAME": Key(
        None, optional(TEXT, "None (the time of the start)"), "Folder of the run inside LOG_PATH."
    ),
    "SEED": Key(1996, NOT_NEGATIVE, "Seeds weights, sampling and augmentation."),
    "WANDB": Key(True, SWITCH, "Log to Weights & Biases, beside CSV and TensorBoard files."),
    "WANDB_PROJECT": Key("Unsupervised Panoptic Segmentation", TEXT, "Project there."),
}
