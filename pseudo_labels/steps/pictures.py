"""Pictures of label maps for contact sheets."""

from __future__ import annotations

import cv2
import numpy as np

from cups.taxonomy import class_set
from cups.visualization import instances_to_color, pseudo_palette, semantic_to_color


def class_colors(num_classes: int) -> np.ndarray:
    """Return (K, 3) uint8: Cityscapes colours for 19 or 27 classes, else colours far apart."""
    return class_set(num_classes).colors if num_classes in (19, 27) else pseudo_palette(num_classes)


def label_pictures(
    image: np.ndarray, semantic: np.ndarray, instance: np.ndarray | None, num_classes: int
) -> list[np.ndarray]:
    """Return [image, semantics, instances] at the image's size; without instances, two pictures."""
    pictures = [image, semantic_to_color(semantic, class_colors(num_classes))]
    if instance is not None:
        pictures.append(instances_to_color(instance))
    return [fit(picture, image) for picture in pictures]


def fit(picture: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Resize a picture to the size of an image; label colours stay pure."""
    return cv2.resize(picture, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
