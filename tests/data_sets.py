"""Miniatures of public data sets, byte for byte in their official encodings; written without the readers.

Every frame shows one scene: stuff, two persons and two cars that touch, a group of cars, and pixels without a
label. In the second frame everything has moved to the right, and each object keeps its identity.
Sources: cityscapesScripts; the KITTI panoptic archive; format.rst and label.py of bdd100k/bdd100k; the SDK
timbroed/MUSES; preprocess_waymo.py of visinf/cups (Waymo's own decoding); MOTS-format.txt of RWTH Aachen;
kitti_step.md of deeplab2; prepare_data/ of mcahny/vps; eval_dvpq.py of ViP-DeepLab; demo.py of Mapillary
Vistas v2.0; panopticapi.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH, SHIFT = 48, 96, 8


@dataclass(frozen=True, eq=False)
class Region:
    """A rectangle of the scene: class, number of the object (0 for none), whether it is a group."""

    rows: slice
    columns: slice
    name: str
    number: int = 0
    group: bool = False

    def mask(self, frame: int) -> np.ndarray:
        """(H, W) bool in frame 0 or 1."""
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        mask[self.rows, self.columns] = True
        return np.roll(mask, SHIFT * frame, axis=1)


TOP, MIDDLE, LOW = slice(0, 16), slice(16, 32), slice(32, 48)
SCENE = (
    Region(TOP, slice(0, 96), "sky"),
    Region(MIDDLE, slice(0, 40), "building"),
    Region(MIDDLE, slice(40, 64), "vegetation"),
    Region(MIDDLE, slice(64, 72), "person", 1),
    Region(MIDDLE, slice(72, 80), "person", 300),
    Region(MIDDLE, slice(80, 96), ""),
    Region(LOW, slice(0, 32), "road"),
    Region(LOW, slice(32, 48), "car", 1),
    Region(LOW, slice(48, 64), "car", 2),
    Region(LOW, slice(64, 80), "car", group=True),
    Region(LOW, slice(80, 96), "sidewalk"),
)

CITYSCAPES = {
    "": 0,
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "vegetation": 21,
    "sky": 23,
    "person": 24,
    "car": 26,
}
TRAIN_IDS = {
    "": 255,
    "road": 0,
    "sidewalk": 1,
    "building": 2,
    "vegetation": 8,
    "sky": 10,
    "person": 11,
    "car": 13,
}
BDD = {"": 0, "road": 7, "sidewalk": 8, "building": 10, "vegetation": 29, "sky": 30, "person": 31, "car": 35}
WAYMO = {
    "": 0,
    "road": 20,
    "sidewalk": 23,
    "building": 19,
    "vegetation": 24,
    "sky": 25,
    "person": 9,
    "car": 2,
}
COCO = {"road": 149, "sidewalk": 191, "building": 197, "vegetation": 184, "sky": 187, "person": 1, "car": 3}
COCO_NAMES = {
    149: ("road", "ground"), 191: ("pavement-merged", "ground"), 197: ("building-other-merged", "building"),
    184: ("tree-merged", "plant"), 187: ("sky-other-merged", "sky"), 1: ("person", "person"),
    3: ("car", "vehicle"),
}  # fmt: skip
VISTAS = {
    "road": (22, "Road", "construction--flat--road"),
    "sidewalk": (25, "Sidewalk", "construction--flat--sidewalk"),
    "building": (28, "Building", "construction--structure--building"),
    "vegetation": (65, "Vegetation", "nature--vegetation"),
    "sky": (62, "Sky", "nature--sky"),
    "person": (31, "Person", "human--person--individual"),
    "car": (109, "Car", "object--vehicle--car"),
    "guard rail": (7, "Guard Rail", "construction--barrier--guard-rail"),
}


def save(path: Path, array: np.ndarray) -> None:
    """Write an image by Pillow alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


def picture(frame: int) -> np.ndarray:
    """Return the image of a frame: each class has its grey level."""
    levels = {name: 20 + 25 * index for index, name in enumerate(dict.fromkeys(r.name for r in SCENE))}
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    for region in SCENE:
        image[region.mask(frame)] = levels[region.name] + frame
    return image


def painted(frame: int, value: Callable[[Region], int], dtype: Any = np.int64) -> np.ndarray:
    """Return (H, W) with a value for each region."""
    array = np.zeros((HEIGHT, WIDTH), dtype=dtype)
    for region in SCENE:
        array[region.mask(frame)] = value(region)
    return array


def rgb(ids: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) with id = R + 256 G + 65536 B."""
    return np.stack((ids & 255, ids >> 8 & 255, ids >> 16), axis=-1).astype(np.uint8)


def instance_id(region: Region) -> int:
    """Return Cityscapes' instance id."""
    label = CITYSCAPES[region.name]
    return label * 1000 + region.number if region.number else label


def cityscapes(root: Path) -> None:
    for frame in (0, 1):
        stem = f"frankfurt_000000_00000{frame}"
        save(root / f"leftImg8bit/val/frankfurt/{stem}_leftImg8bit.png", picture(frame))
        folder = root / "gtFine/val/frankfurt"
        save(folder / f"{stem}_gtFine_labelIds.png", painted(frame, lambda r: CITYSCAPES[r.name], np.uint8))
        save(folder / f"{stem}_gtFine_instanceIds.png", painted(frame, instance_id, np.uint16))


def kitti(root: Path) -> None:
    for frame in (0, 1):
        save(root / f"validation/images/00000{frame}_10.png", picture(frame))
        save(root / f"validation/annotations/00000{frame}_10.png", rgb(painted(frame, instance_id)))


def bdd(root: Path) -> None:
    def annotation(region: Region) -> int:
        return 250 + SCENE.index(region)  # some need the byte B

    for frame in (0, 1):
        name = ("7d06fefd-f7be05a6", "7dfda4da-b7d44e2c")[frame]
        save(root / f"images/10k/val/{name}.jpg", picture(frame))
        bitmask = np.stack(
            (
                painted(frame, lambda r: BDD[r.name]),
                painted(frame, lambda r: 1 << 1 if r.group else 1 << 2 if r.number else 0),
                painted(frame, lambda r: annotation(r) >> 8),
                painted(frame, lambda r: annotation(r) & 255),
            ),
            axis=-1,
        )
        save(root / f"labels/pan_seg/bitmasks/val/{name}.png", bitmask.astype(np.uint8))


def segments(frame: int, category: Callable[[Region], int | None]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return (H, W) segment ids as IdGenerator draws them, and `segments_info`."""
    rng = np.random.default_rng(7)
    ids, info = np.zeros((HEIGHT, WIDTH), dtype=np.int64), []
    drawn = {}
    for region in SCENE:
        label = category(region)
        key = (label, region.number, region.group)
        if label is None:
            continue
        fresh = key not in drawn
        segment = drawn.setdefault(key, int(rng.integers(1, 2**24)))
        ids[region.mask(frame)] = segment
        if fresh:
            info.append({"id": segment, "category_id": label, "iscrowd": int(region.group)})
    for one in info:
        rows, columns = np.nonzero(ids == one["id"])
        one["area"] = len(rows)
        left, top = int(columns.min()), int(rows.min())
        one["bbox"] = [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]
    return ids, info


def write_json(path: Path, categories: list[dict[str, Any]], frames: Iterator[Mapping[str, Any]]) -> None:
    images, annotations = [], []
    for one in frames:
        images.append({"id": one["id"], "file_name": one["image"], "height": HEIGHT, "width": WIDTH})
        annotations.append({"image_id": one["id"], "file_name": one["png"], "segments_info": one["segments"]})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def muses(root: Path) -> None:
    categories = [
        {
            "id": CITYSCAPES[name],
            "name": name,
            "supercategory": name,
            "isthing": int(name in ("person", "car")),
        }
        for name in CITYSCAPES
        if name
    ]

    def frames() -> Iterator[Mapping[str, Any]]:
        for frame, condition in enumerate(("clear/day", "fog/night")):
            name = f"REC000{frame}_frame_00012{frame}"
            save(root / f"frame_camera/val/{condition}/{name}_frame_camera.png", picture(frame))
            ids, info = segments(frame, lambda r: CITYSCAPES[r.name] or None)
            save(root / f"gt_panoptic/val/{condition}/{name}_gt_panoptic.png", rgb(ids))
            png = f"val/{condition}/{name}_gt_panoptic.png"
            yield {"id": name, "image": png, "png": png, "segments": info}

    write_json(root / "gt_panoptic/val.json", categories, frames())


def waymo(root: Path) -> None:
    scene = root / "validation/segment-10203656353524179475_7625_000_7645_000_with_camera_labels"
    for frame, number in enumerate((2, 10)):
        save(scene / f"{number}_image.png", picture(frame))
        save(scene / f"{number}_semantic.png", painted(frame, lambda r: WAYMO[r.name], np.uint16))
        save(scene / f"{number}_instance.png", painted(frame, lambda r: r.number, np.uint16))
    save(scene / "11_image.png", picture(0))  # no labels: no frame


def mots(root: Path) -> None:
    def object_id(region: Region) -> int:
        if region.group:
            return 10000
        return 2000 + region.number if region.name == "person" else 0

    for frame in (0, 1):
        save(root / f"train/images/0002/00000{frame + 1}.jpg", picture(frame))
        save(root / f"train/instances/0002/00000{frame + 1}.png", painted(frame, object_id, np.uint16))


def kitti_step(root: Path) -> None:
    for frame in (0, 1):
        save(root / f"images/val/0002/00000{frame}.png", picture(frame))
        number = painted(frame, lambda r: r.number)
        label = painted(frame, lambda r: TRAIN_IDS[r.name])
        panoptic = np.stack((label, number // 256, number % 256), axis=-1)
        save(root / f"panoptic_maps/val/0002/00000{frame}.png", panoptic.astype(np.uint8))


def cityscapes_vps(root: Path) -> None:
    categories = [
        {"id": TRAIN_IDS[name], "name": name, "isthing": int(name in ("person", "car"))}
        for name in TRAIN_IDS
        if name
    ]

    def frames() -> Iterator[Mapping[str, Any]]:
        for frame, kind in enumerate((("final_mask", "newImg8bit"), ("gtFine_color", "leftImg8bit"))):
            name = f"0005_00{25 + frame}_frankfurt_000000_00000{frame}"
            save(root / f"val/img/{name}_{kind[1]}.png", picture(frame))
            ids, info = segments(frame, lambda r: None if r.group or not r.name else TRAIN_IDS[r.name])
            save(root / f"val/panoptic_video/{name}_{kind[0]}.png", rgb(ids))
            for one in info:
                del one["bbox"]
            png = f"{name}_{kind[0]}.png"
            yield {"id": name, "image": f"{name}_{kind[1]}.png", "png": png, "segments": info}

    write_json(root / "panoptic_gt_val_city_vps.json", categories, frames())
    save(root / "val/img_all/0005_0024_frankfurt_000000_000009_newImg8bit.png", picture(0))


def cityscapes_dvps(root: Path) -> None:
    def panoptic_id(region: Region) -> int:
        return 32000 if region.group or not region.name else TRAIN_IDS[region.name] * 1000 + region.number

    for frame in (0, 1):
        name = f"000005_00000{frame}_frankfurt_000000_00000{frame}"
        save(root / f"video_sequence/val/{name}_leftImg8bit.png", picture(frame))
        ids = painted(frame, panoptic_id, np.uint16)
        save(root / f"video_sequence/val/{name}_gtFine_instanceTrainIds.png", ids)


def vistas(root: Path) -> None:
    things = ("person", "car")
    categories = [
        {"id": number, "name": name, "supercategory": full, "isthing": int(key in things), "color": [0, 0, 0]}
        for key, (number, name, full) in VISTAS.items()
    ]

    def frames() -> Iterator[Mapping[str, Any]]:
        for frame in (0, 1):
            name = f"--jRsD9anHdGxv4ZOCQkt{frame}"
            save(root / f"validation/images/{name}.jpg", picture(frame))
            ids, info = segments(frame, lambda r: VISTAS[r.name or "guard rail"][0])
            save(root / f"validation/v2.0/panoptic/{name}.png", rgb(ids))
            yield {"id": name, "image": f"{name}.jpg", "png": f"{name}.png", "segments": info}

    write_json(root / "validation/v2.0/panoptic/panoptic_2020.json", categories, frames())


def coco_stuff(root: Path) -> None:
    categories = [
        {"id": number, "name": name, "supercategory": kind, "isthing": int(number < 92), "color": [0, 0, 0]}
        for number, (name, kind) in COCO_NAMES.items()
    ]

    def frames() -> Iterator[Mapping[str, Any]]:
        for frame, number in enumerate((139, 285)):
            name = f"{number:012}"
            save(root / f"val2017/{name}.jpg", picture(frame))
            ids, info = segments(frame, lambda r: COCO.get(r.name))
            save(root / f"annotations/panoptic_val2017/{name}.png", rgb(ids))
            yield {"id": number, "image": f"{name}.jpg", "png": f"{name}.png", "segments": info}

    write_json(root / "annotations/panoptic_val2017.json", categories, frames())


def coco_panoptic(root: Path) -> None:
    """A set of another tool: names of classes only, images of any suffix, no suffix in the JSON."""
    names = [name for name in CITYSCAPES if name]
    categories = [
        {"id": 40 + 3 * index, "name": name, "isthing": int(name in ("person", "car"))}
        for index, name in enumerate(names)
    ]

    def frames() -> Iterator[Mapping[str, Any]]:
        for frame in (0, 1):
            save(root / f"images/drive/{frame}.jpeg", picture(frame))
            ids, info = segments(frame, lambda r: 40 + 3 * names.index(r.name) if r.name else None)
            save(root / f"val/drive/{frame}.png", rgb(ids))
            yield {"id": f"f{frame}", "image": f"{frame}", "png": f"drive/{frame}.png", "segments": info}

    write_json(root / "val.json", categories, frames())


WRITERS: dict[str, Callable[[Path], None]] = {
    "cityscapes": cityscapes,
    "kitti": kitti,
    "bdd": bdd,
    "muses": muses,
    "muses-all": muses,
    "waymo": waymo,
    "mots": mots,
    "kitti-step": kitti_step,
    "cityscapes-vps": cityscapes_vps,
    "cityscapes-dvps": cityscapes_dvps,
    "vistas": vistas,
    "coco-stuff": coco_stuff,
    "coco-panoptic": coco_panoptic,
}
"""Name of a data set -> what writes its miniature."""

_KINDS = {"road": "ground", "sidewalk": "ground", "vegetation": "plant", "car": "vehicle"}


def expected(name: str, region: Region) -> tuple[str, bool]:
    """Return the class of a region in a data set, empty for void, and whether it is an object."""
    if name == "mots":
        return ("", False) if region.group else (
            ("person", True) if region.name == "person" else ("background", False)
        )  # fmt: skip
    if region.group and name in ("cityscapes-vps", "cityscapes-dvps"):
        return "", False
    kind = _KINDS.get(region.name, region.name) if name == "coco-stuff" else region.name
    return kind, region.number > 0
