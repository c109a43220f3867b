"""What the tests of training share: a tiny labelled set."""

from __future__ import annotations

import numpy as np
import pytest

from perception import coco
from tests.perception.blocks import Block, look

CLASSES = ("box", "cylinder", "ball", "irregular")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Twelve images of plain boxes on a table."""
    root = tmp_path_factory.mktemp("coco")
    rng = np.random.default_rng(0)
    writer = coco.CocoWriter(root, CLASSES)
    for scene in range(6):
        blocks = [
            Block(
                (0.40, float(rng.uniform(-0.1, 0.0))), (0.09, 0.05, 0.05), yaw=float(rng.random())
            ),
            Block((0.55, float(rng.uniform(0.0, 0.1))), (0.07, 0.05, 0.06), class_name="ball"),
        ]
        for camera in ("overhead", "wrist"):
            frame, found = look(blocks, camera, rng=rng, sigma_m=0.002)
            labels = []
            for instance, d in enumerate(found, start=1):
                labels.append(
                    {
                        "bbox": list(d.box_xywh_px),
                        "area": d.box_xywh_px[2] * d.box_xywh_px[3],
                        "category_id": CLASSES.index(d.class_name) + 1,
                        "iscrowd": 0,
                        "instance": instance,
                    }
                )
            writer.add(frame, np.zeros((240, 320), np.uint8), labels, scene)
    writer.close({})
    return root
