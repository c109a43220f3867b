"""Curves and pictures of a training."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from perception import coco

torch = pytest.importorskip("torch")
pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import (  # noqa: E402
    EventAccumulator,
)

from perception.training.board import FOLDER, Board  # noqa: E402
from perception.training.network import NetworkConfig  # noqa: E402
from perception.training.train import DetectorTrainConfig, train  # noqa: E402


def read(out) -> EventAccumulator:
    return EventAccumulator(str(out / FOLDER), size_guidance={"images": 0, "scalars": 0}).Reload()


def test_a_training_and_its_resumption_are_one_set_of_curves(data, tmp_path):
    config = DetectorTrainConfig(
        epochs=2, batch=4, warmup_steps=2, threads=1, precision="fp32", validate_every=1,
        network=NetworkConfig(
            stage_channels=(16, 16, 32, 32), pyramid_channels=16, head_channels=32, proposals=30
        ),
    )  # fmt: skip
    assert train(data, tmp_path, config, data, stop_after_s=0.0) is None
    train(data, tmp_path, config, data)
    found = read(tmp_path)
    scalars = found.Tags()["scalars"]
    parts = {"class", "box", "class_refined", "box_refined", "objectness", "rpn_box_reg", "sum"}
    assert {f"loss/{part}" for part in parts} <= set(scalars)
    # Three steps an epoch: curves have a point at the first one, figures at the last one.
    assert [event.step for event in found.Scalars("learning_rate")] == [0, 3]
    for name in ("ap", "ap50", "map"):
        assert [event.step for event in found.Scalars(f"validation/{name}")] == [2, 5]
    total = found.Scalars("loss/sum")[0].value
    summed = sum(found.Scalars(f"loss/{part}")[0].value for part in parts - {"sum"})
    assert total == pytest.approx(summed, rel=1e-4)
    # The same images each time.
    assert found.Tags()["images"] == [f"validation/{index}" for index in (0, 4, 7, 11)]
    pictures = found.Images("validation/4")
    assert [event.step for event in pictures] == [2, 5]
    assert (pictures[0].width, pictures[0].height) == (640, 480 + 29)


def test_what_was_found_is_drawn(data, tmp_path):
    class Finder(torch.nn.Linear):
        def __init__(self, score):
            super().__init__(1, 1)
            self.score = score

        def forward(self, images):
            box = torch.tensor([[20.0, 30.0, 120.0, 90.0]])
            return [
                {"boxes": box, "scores": torch.tensor([self.score]), "labels": torch.ones(1).long()}
            ]

    held_out = coco.read(data)
    with Board(tmp_path, 0) as board:
        board.pictures(1, Finder(0.9), held_out)
        board.pictures(2, Finder(0.1), held_out)
    sure, unsure = (
        cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
        for event in read(tmp_path).Images("validation/0")
    )
    changed = np.argwhere((sure != unsure).any(axis=2)[29:])  # below the title
    assert abs(changed[:, 1].min() - 40) <= 3
    assert abs(changed[:, 0].max() - 180) <= 3


def test_what_an_interrupted_epoch_wrote_is_written_over(tmp_path):
    with Board(tmp_path, 0) as board:
        for step in range(5):
            board.curves(step, {"x": 1.0})
    with Board(tmp_path, 3) as board:
        board.curves(3, {"x": 2.0})
    assert [(e.step, e.value) for e in read(tmp_path).Scalars("x")] == [
        (0, 1.0), (1, 1.0), (2, 1.0), (3, 2.0),
    ]  # fmt: skip


def test_without_tensorboard_nothing_is_written(tmp_path, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with Board(tmp_path, 0) as board:
        board.curves(0, {"x": 1.0})
        board.pictures(0, torch.nn.Linear(1, 1), coco.read(data))
    assert list(tmp_path.iterdir()) == []
