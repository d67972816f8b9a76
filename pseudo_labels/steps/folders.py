"""Names of the folders and files that the steps of Stage 1 write and read.

A product carries the name of the semantics that it was made of, behind their prefix: so instances, panoptic
maps and training labels of other semantics never lie in one folder.
"""

from __future__ import annotations

from cups.backbones.names import folder_name
from cups.io.file_names import CUPS_FOLDER

FEATURES_PREFIX = "features_"
CODES_FOLDER = "codes_cause_tr"
SEMANTIC_PREFIX = "pseudo_semantic_"
CAUSE_SEMANTICS = "pseudo_semantic_cause27"
DEFAULT_K = 300
"""Clusters unless told otherwise."""
DEFAULT_SEMANTICS = "pseudo_semantic_raw_k300"
"""Clusters without names: what every step reads unless told otherwise."""
DEPTH_FOLDER = "depth_spidepth"
INSTANCE_PREFIX = "pseudo_instance_"
PANOPTIC_PREFIX = "pseudo_panoptic_"
REFINED_PREFIX = "pseudo_semantic_refined_"
VOTED_PREFIX = "pseudo_semantic_voted_"
OBJECTS = "objects_"
"""Before the name of semantics, and in that of instances: with classes of objects."""
DEFAULT_METHOD = "depth_guided"
SLOT_METHOD = "dinosaur"
COMPONENTS_METHOD = "cc"


def trained_heads(backbone: str) -> str:
    """Return the folder of CAUSE heads that were trained here, under the output root."""
    return f"cause_{folder_name(backbone)}"


def raw_semantics(k: int, merged: int | None = None) -> str:
    """Return the folder of clusters as they are, or of clusters that were merged to fewer."""
    return f"{SEMANTIC_PREFIX}raw_k{k}" + ("" if merged is None else f"_merged{merged}")


def mapped_semantics(k: int) -> str:
    """Return the folder of clusters that bear the names of the 19 classes."""
    return f"{SEMANTIC_PREFIX}mapped_k{k}"


def tail(semantics: str) -> str:
    """Return what products of semantics carry of their name: it without its prefix."""
    return semantics.removeprefix(SEMANTIC_PREFIX)


def instance_folder(method: str, semantics: str) -> str:
    """Return the folder of the instances that a method finds in semantics.

    Example:
        >>> instance_folder("depth_guided", "pseudo_semantic_raw_k300")
        'pseudo_instance_depth_guided_raw_k300'
    """
    return f"{INSTANCE_PREFIX}{method}_{tail(semantics)}"


def object_semantics(semantics: str) -> str:
    """Return the folder of semantics whose things have classes of objects.

    Example:
        >>> object_semantics("pseudo_semantic_raw_k300")
        'pseudo_semantic_objects_raw_k300'
    """
    return f"{SEMANTIC_PREFIX}{OBJECTS}{tail(semantics)}"


def object_instances(instances: str, semantics: str) -> str:
    """Return the folder of the instances that go with `object_semantics`.

    Example:
        >>> object_instances("pseudo_instance_depth_guided_raw_k300", "pseudo_semantic_raw_k300")
        'pseudo_instance_depth_guided_objects_raw_k300'
    """
    method = instances.removeprefix(INSTANCE_PREFIX).removesuffix(tail(semantics)).rstrip("_")
    return instance_folder(method or DEFAULT_METHOD, object_semantics(semantics))


def panoptic_folder(method: str, semantics: str) -> str:
    """Return the folder of the panoptic maps of semantics and the instances of a method."""
    return f"{PANOPTIC_PREFIX}{method}_{tail(semantics)}"


def cups_folder(semantics: str) -> str:
    """Return the folder of the training labels made of semantics."""
    return f"{CUPS_FOLDER}_{tail(semantics)}"
