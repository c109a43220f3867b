"""Detection data on disk: COCO files beside colour, depth and instance images.

A data set is a folder:

    instances.json   COCO: ``info``, ``images``, ``annotations``, ``categories``
    rgb/*.png        colour, 8 bits
    depth/*.png      depth along the optical axis, 16 bits in units of ``DEPTH_UNIT_M``; 0 = none
    mask/*.png       instance masks, 8 bits: 0 = no object, else the annotation's ``instance``

Beyond COCO's own keys an image carries ``depth_file, mask_file, scene, camera, stamp_s,
intrinsics_px`` ([fx, fy, cx, cy]) and ``X_world_cam`` ([x, y, z, qx, qy, qz, qw]); an annotation
carries ``instance, object`` and, where it is known, the oriented box: ``position_m`` (3),
``yaw_rad`` and ``dimensions_m`` (3) as in ``robot.types.ObjectState``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from robot.errors import SteadyhandError
from robot.types import CameraIntrinsics, Pose, RgbdFrame

DEPTH_UNIT_M = 1e-4
INSTANCES = "instances.json"


class DatasetError(SteadyhandError):
    """A detection data set is missing, damaged or inconsistent."""


class Boxes(NamedTuple):
    """The labels of one image.

    Attributes:
        xywh_px: (N, 4) float32, left, top, width, height.
        labels: (N,) int64 category ids.
        crowd: (N,) bool; a detection there is neither asked for nor wrong.
    """

    xywh_px: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]


def boxes_of(annotations: Sequence[dict[str, Any]]) -> Boxes:
    """The annotations of one image as arrays."""
    return Boxes(
        np.array([a["bbox"] for a in annotations], np.float32).reshape(-1, 4),
        np.array([a["category_id"] for a in annotations], np.int64),
        np.array([bool(a.get("iscrowd", 0)) for a in annotations], np.bool_),
    )


@dataclass(slots=True)
class CocoDataset:
    """The contents of one ``instances.json``.

    Attributes:
        root: the folder.
        classes: category names; category ``i + 1`` is ``classes[i]``.
        images: image entries in order of id.
        annotations: image id to its annotations.
        info: whatever the maker of the data wrote down about it.
    """

    root: Path
    classes: tuple[str, ...]
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def boxes(self, image_id: int) -> Boxes:
        """What is labelled in one image; ``iscrowd`` entries included."""
        return boxes_of(self.annotations.get(image_id, []))

    def frame(self, index: int) -> RgbdFrame:
        """The ``index``-th image with its depth and camera, as a camera would give it.

        Raises:
            DatasetError: a file is missing or has another size than the entry says.
        """
        entry = self.images[index]
        fx, fy, cx, cy = entry["intrinsics_px"]
        pose = entry["X_world_cam"]
        return RgbdFrame(
            entry["camera"],
            float(entry["stamp_s"]),
            self._image(entry, "file_name", cv2.IMREAD_COLOR)[..., ::-1].copy(),
            (self._image(entry, "depth_file", cv2.IMREAD_UNCHANGED) * DEPTH_UNIT_M).astype(
                np.float32
            ),
            CameraIntrinsics(entry["width"], entry["height"], fx, fy, cx, cy),
            Pose("world", entry["camera"], np.array(pose[:3]), np.array(pose[3:])),
        )

    def mask(self, index: int) -> NDArray[np.uint8]:
        """(H, W) uint8 instance numbers of the ``index``-th image; 0 where there is no object."""
        return self._image(self.images[index], "mask_file", cv2.IMREAD_UNCHANGED)

    def scenes(self) -> list[list[int]]:
        """Indices of images grouped by scene, in order."""
        groups: dict[int, list[int]] = {}
        for index, entry in enumerate(self.images):
            groups.setdefault(int(entry["scene"]), []).append(index)
        return [groups[key] for key in sorted(groups)]

    def _image(self, entry: dict[str, Any], key: str, flags: int) -> NDArray[Any]:
        path = self.root / str(entry.get(key, ""))
        image = cv2.imread(str(path), flags) if path.is_file() else None
        if image is None:
            raise DatasetError(f"{path}: {key} of image {entry['id']} is missing or not an image")
        if image.shape[:2] != (entry["height"], entry["width"]):
            raise DatasetError(
                f"{path}: is {image.shape[1]}x{image.shape[0]} px, {INSTANCES} says "
                f"{entry['width']}x{entry['height']}"
            )
        return np.asarray(image)


def read(root: Path | str) -> CocoDataset:
    """Reads and validates ``root/instances.json`` (the images are read when they are asked for).

    Raises:
        DatasetError: the file is missing, not JSON, or not consistent in itself.
    """
    root = Path(root)
    path = root / INSTANCES
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; expected a COCO data set's annotations")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"{path}: not JSON: {error}") from error
    problem = validate(data)
    if problem:
        raise DatasetError(f"{path}: {problem}")
    categories = sorted(data["categories"], key=lambda c: int(c["id"]))
    dataset = CocoDataset(
        root,
        tuple(str(c["name"]) for c in categories),
        sorted(data["images"], key=lambda i: int(i["id"])),
        info=data.get("info", {}),
    )
    for annotation in data["annotations"]:
        dataset.annotations.setdefault(int(annotation["image_id"]), []).append(annotation)
    return dataset


def validate(data: Any) -> str:
    """What is wrong with a COCO dictionary, in one line; empty when nothing is."""
    if not isinstance(data, dict):
        return "expected a JSON object at the top"
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list):
            return f"{key}: expected a list"
    ids = [c.get("id") for c in data["categories"]]
    if sorted(ids, key=str) != list(range(1, len(ids) + 1)) or not ids:
        return f"categories: ids must be 1 to {len(ids) or 'n'}, got {ids}"
    sizes: dict[int, tuple[int, int]] = {}
    for image in data["images"]:
        for key in ("id", "file_name", "width", "height"):
            if key not in image:
                return f"images: entry {image.get('id', image)} has no {key!r}"
        if image["id"] in sizes:
            return f"images: id {image['id']} occurs twice"
        sizes[image["id"]] = (image["width"], image["height"])
    seen: set[int] = set()
    for annotation in data["annotations"]:
        name = f"annotations: entry {annotation.get('id')}"
        missing = [k for k in ("id", "image_id", "category_id", "bbox") if k not in annotation]
        if missing:
            return f"{name} has no {missing[0]!r}"
        if annotation["id"] in seen:
            return f"{name} occurs twice"
        seen.add(annotation["id"])
        if annotation["image_id"] not in sizes:
            return f"{name}: no image {annotation['image_id']}"
        if annotation["category_id"] not in ids:
            return f"{name}: no category {annotation['category_id']}"
        x, y, w, h = annotation["bbox"]
        width, height = sizes[annotation["image_id"]]
        inside = x >= 0 and y >= 0 and x + w <= width + 1e-6 and y + h <= height + 1e-6
        if not (w > 0 and h > 0 and inside):
            return f"{name}: bbox {annotation['bbox']} is empty or outside {width}x{height} px"
    return ""


class CocoWriter:
    """Writes a data set image by image; ``close`` writes ``instances.json`` last.

    Image files are complete before they get their names, so an interrupted run leaves no broken
    file; ``instances.json`` exists only when the set is whole.
    """

    def __init__(self, root: Path | str, classes: tuple[str, ...]) -> None:
        self.root = Path(root)
        self.classes = classes
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        for name in ("rgb", "depth", "mask"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def add(
        self,
        frame: RgbdFrame,
        mask: NDArray[np.uint8],
        labels: list[dict[str, Any]],
        scene: int,
    ) -> dict[str, Any]:
        """Writes one image's files and keeps its entry.

        Args:
            frame: colour, depth and camera.
            mask: (H, W) uint8 instance numbers.
            labels: annotations without ``id`` and ``image_id``.
            scene: number of the scene; images of one scene share it.
        """
        image_id = len(self.images) + 1
        name = f"{scene:06d}_{frame.camera}.png"
        depth = np.nan_to_num(frame.depth_m / DEPTH_UNIT_M, nan=0.0, posinf=0.0, neginf=0.0)
        k, pose = frame.intrinsics, frame.X_world_cam
        write_png(self.root / "rgb" / name, frame.rgb[..., ::-1])
        write_png(self.root / "depth" / name, np.clip(np.rint(depth), 0, 65535).astype(np.uint16))
        write_png(self.root / "mask" / name, mask)
        entry = {
            "id": image_id,
            "file_name": f"rgb/{name}",
            "depth_file": f"depth/{name}",
            "mask_file": f"mask/{name}",
            "width": k.width_px,
            "height": k.height_px,
            "scene": scene,
            "camera": frame.camera,
            "stamp_s": frame.stamp_s,
            "intrinsics_px": [k.fx_px, k.fy_px, k.cx_px, k.cy_px],
            "X_world_cam": [*pose.position_m.tolist(), *pose.quat_xyzw.tolist()],
        }
        return self.add_entry(entry, labels)

    def add_unlabelled(self, frame: RgbdFrame, scene: int) -> dict[str, Any]:
        """As ``add``, of a frame of which nobody knows what it shows."""
        return self.add(frame, np.zeros(frame.depth_m.shape, np.uint8), [], scene)

    def add_entry(self, entry: dict[str, Any], labels: list[dict[str, Any]]) -> dict[str, Any]:
        """Keeps an entry whose files are already written, with a new id, and its labels."""
        entry = {**entry, "id": len(self.images) + 1}
        self.images.append(entry)
        for label in labels:
            ids = {"id": len(self.annotations) + 1, "image_id": entry["id"]}
            self.annotations.append({**label, **ids})
        return entry

    def close(self, info: dict[str, Any]) -> Path:
        """Writes ``instances.json`` and returns its path.

        Raises:
            DatasetError: what was added is not consistent.
        """
        data = {
            "info": info,
            "images": self.images,
            "annotations": self.annotations,
            "categories": [{"id": i, "name": n} for i, n in enumerate(self.classes, start=1)],
        }
        problem = validate(data)
        if problem:
            raise DatasetError(f"{self.root / INSTANCES}: not written: {problem}")
        path = self.root / INSTANCES
        write_bytes(path, json.dumps(data, separators=(",", ":")).encode())
        return path


def write_png(path: Path, image: NDArray[Any]) -> None:
    """Writes a PNG (BGR or one channel) under a temporary name, then renames it."""
    # Level 1: four times as fast as the default and a tenth larger.
    done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise DatasetError(f"{path}: cannot encode an image of {image.shape} {image.dtype}")
    write_bytes(path, data.tobytes())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file under a temporary name, then renames it.

    Raises:
        DatasetError: the disk refuses.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)  # noqa: PTH105 (replaces on every platform)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DatasetError(f"{path}: cannot be written: {error.strerror or error}") from error


def run_length(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A binary mask as COCO's uncompressed run lengths, column by column, zeros first."""
    flat = np.asarray(mask, bool).T.reshape(-1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(np.int8)))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    if counts[-1] == 0:
        counts = counts[:-1]
    return {"size": list(mask.shape), "counts": counts.tolist()}
