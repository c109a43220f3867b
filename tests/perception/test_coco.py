from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from perception import coco
from tests.perception.blocks import Block, look

CLASSES = ("box", "ball")


def _label(**changes):
    return {"bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0, "category_id": 1, **changes}


def _written(root):
    writer = coco.CocoWriter(root, CLASSES)
    frame, _ = look([Block((0.5, 0.0), (0.1, 0.06, 0.05))])
    mask = np.zeros((240, 320), np.uint8)
    mask[20:60, 10:40] = 1
    writer.add(frame, mask, [_label(instance=1)], scene=0)
    wrist, _ = look([], "wrist")
    writer.add(wrist, np.zeros_like(mask), [], scene=0)
    writer.close({"seed": 5})
    return frame, mask


def test_what_is_written_is_read_back(tmp_path):
    frame, mask = _written(tmp_path)
    dataset = coco.read(tmp_path)
    assert dataset.classes == CLASSES
    assert dataset.info == {"seed": 5}
    assert dataset.scenes() == [[0, 1]]
    back = dataset.frame(0)
    np.testing.assert_array_equal(back.rgb, frame.rgb)
    np.testing.assert_allclose(back.depth_m, frame.depth_m, atol=0.51 * coco.DEPTH_UNIT_M)
    np.testing.assert_allclose(back.X_world_cam.matrix, frame.X_world_cam.matrix, atol=1e-12)
    assert back.intrinsics == frame.intrinsics
    np.testing.assert_array_equal(dataset.mask(0), mask)
    boxes, labels, crowd = dataset.boxes(1)
    assert boxes.tolist() == [[10, 20, 30, 40]]
    assert labels.tolist() == [1]
    assert crowd.tolist() == [False]
    assert dataset.boxes(2)[0].shape == (0, 4)
    assert not list(tmp_path.rglob("*.part"))


GOOD = {
    "images": [{"id": 1, "file_name": "a.png", "width": 320, "height": 240}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]}],
    "categories": [{"id": 1, "name": "box"}],
}


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("annotations", 0, "bbox"), [0, 0, 0, 5], "empty or outside"),
        (("annotations", 0, "bbox"), [318, 0, 5, 5], "empty or outside"),
        (("annotations", 0, "image_id"), 9, "no image 9"),
        (("annotations", 0, "category_id"), 2, "no category 2"),
        (("categories", 0, "id"), 0, "categories: ids"),
        (("images",), None, "images: expected a list"),
        (("images",), GOOD["images"] * 2, "occurs twice"),
        (("images",), [{"id": 1}], "has no 'file_name'"),
    ],
)
def test_an_inconsistent_file_is_named(tmp_path, where, value, message):
    assert coco.validate(GOOD) == ""
    data = copy.deepcopy(GOOD)
    part = data
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    (tmp_path / "instances.json").write_text(json.dumps(data))
    with pytest.raises(coco.DatasetError, match=message) as error:
        coco.read(tmp_path)
    assert "instances.json" in str(error.value)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(coco.DatasetError, match="no such file"):
        coco.read(tmp_path)
    (tmp_path / "instances.json").write_text("{")
    with pytest.raises(coco.DatasetError, match="not JSON"):
        coco.read(tmp_path)


def test_a_damaged_image_is_named(tmp_path):
    _written(tmp_path)
    dataset = coco.read(tmp_path)
    picture = tmp_path / dataset.images[0]["file_name"]
    picture.write_bytes(picture.read_bytes()[:20])
    with pytest.raises(coco.DatasetError, match="missing or not an image"):
        dataset.frame(0)


def test_an_inconsistent_set_is_not_written(tmp_path):
    writer = coco.CocoWriter(tmp_path, CLASSES)
    frame, _ = look([])
    writer.add(frame, np.zeros((240, 320), np.uint8), [_label(category_id=7)], scene=0)
    with pytest.raises(coco.DatasetError, match="no category 7"):
        writer.close({})
    assert not (tmp_path / "instances.json").exists()


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_run_lengths_describe_the_mask(mask):
    code = coco.run_length(mask)
    counts = code["counts"]
    values = np.arange(len(counts)) % 2
    flat = np.repeat(values, counts).astype(bool)
    assert code["size"] == list(mask.shape)
    np.testing.assert_array_equal(flat.reshape(mask.shape[::-1]).T, mask)
