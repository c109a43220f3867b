from __future__ import annotations

import numpy as np
import pytest

from perception import coco
from perception.contact_sheet import contact_sheet
from perception.drawing import CROWD, class_colour
from tests.perception.blocks import Block, look

CLASSES = ("box", "ball")


@pytest.fixture
def dataset(tmp_path):
    """Five scenes of two views; the second object of each is a crowd."""
    writer = coco.CocoWriter(tmp_path, CLASSES)
    blocks = [Block((0.45, 0.12), (0.08, 0.05, 0.05)), Block((0.5, -0.1), (0.08, 0.05, 0.05))]
    for scene in range(5):
        for name in ("overhead", "wrist"):
            frame, found = look(blocks, name)
            labels = [
                {"bbox": list(d.box_xywh_px), "category_id": 1 + i, "iscrowd": i, "instance": i + 1}
                for i, d in enumerate(found)
            ]
            writer.add(frame, np.zeros((240, 320), np.uint8), labels, scene)
    writer.close({})
    return coco.read(tmp_path)


def test_views_stand_side_by_side_with_their_labels(dataset):
    sheet = contact_sheet(dataset, most=4, columns=2, scale=2)
    bar = (sheet.shape[0] - 6) // 2 - 480
    assert sheet.shape == (2 * (480 + bar) + 6, 2 * 640 + 6, 3)
    for column, name in enumerate(("overhead", "wrist")):
        labels = dataset.annotations[column + 1]
        for label, colour in zip(labels, (class_colour("box"), CROWD), strict=True):
            x, y, w, h = (round(2 * v) for v in label["bbox"])
            x += column * 646
            # The lower edge, where no tag covers it.
            edge = sheet[bar + y + h, x : x + w].astype(int)
            assert (np.abs(edge - colour).sum(axis=1) < 30).mean() > 0.9, name


def test_scenes_are_spread_over_the_set_and_never_too_many(dataset):
    assert contact_sheet(dataset, most=100, columns=4).shape[1] == 4 * 640 + 3 * 6
    one = contact_sheet(dataset, most=1, columns=4)
    assert one.shape[1] == 2 * 640 + 6  # a whole scene even so
