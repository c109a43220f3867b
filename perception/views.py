"""A folder of calibration images: ``views.yaml`` names them and where the tool was for each.

views:
  - image: view_00.png
    X_world_tool:
      position_m: [0.5, 0.0, 0.4]
      quat_xyzw: [1.0, 0.0, 0.0, 0.0]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from perception.coco import write_bytes, write_png
from robot.errors import SensorError
from robot.types import Pose

NAME = "views.yaml"


def read_views(folder: Path) -> tuple[list[str], list[NDArray[np.uint8]], list[Pose]]:
    """Names, grey images of one size, and ``X_world_tool`` of each.

    Raises:
        SensorError: a file is missing or malformed, or sizes differ.
    """
    path = folder / NAME
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        rows = [
            (
                str(row["image"]),
                np.array(row["X_world_tool"]["position_m"], dtype=float),
                np.array(row["X_world_tool"]["quat_xyzw"], dtype=float),
            )
            for row in told["views"]
        ]
    except OSError as error:
        raise SensorError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise SensorError(
            f"{path}: expected 'views', each with image, X_world_tool.position_m and .quat_xyzw: "
            f"{error!r}"
        ) from None
    names, images, poses = [], [], []
    for name, position, quat in rows:
        image = cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise SensorError(f"{folder / name}: no such image, or not one that can be read")
        if images and image.shape != images[0].shape:
            raise SensorError(f"{folder / name}: {image.shape} px, the first one {images[0].shape}")
        names.append(name)
        images.append(np.asarray(image, dtype=np.uint8))
        poses.append(Pose("world", "tool", position, quat))
    if not images:
        raise SensorError(f"{path}: names no views")
    return names, images, poses


def write_views(folder: Path, images: Sequence[NDArray[np.uint8]], poses: Sequence[Pose]) -> None:
    """What :func:`read_views` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, (image, pose) in enumerate(zip(images, poses, strict=True)):
        name = f"view_{i:02d}.png"
        write_png(folder / name, image)
        rows.append(
            {
                "image": name,
                "X_world_tool": {
                    "position_m": pose.position_m.tolist(),
                    "quat_xyzw": pose.quat_xyzw.tolist(),
                },
            }
        )
    write_bytes(folder / NAME, yaml.safe_dump({"views": rows}, sort_keys=False).encode())
