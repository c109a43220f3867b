"""Networks to compare the detector with: without heights, and torchvision's."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from perception import coco
from perception.detector import OnnxDetector
from perception.session import ModelError

torch = pytest.importorskip("torch")

from perception.training.export import (  # noqa: E402
    calibration_images,
    export_fp32,
    load_weights,
    parity,
)
from perception.training.network import NetworkConfig, build_network  # noqa: E402
from perception.training.reference import _distinct, build_reference  # noqa: E402
from perception.training.train import DetectorTrainConfig, train  # noqa: E402

SMALL = NetworkConfig(
    stage_channels=(16, 16, 32, 32), pyramid_channels=16, head_channels=32, proposals=30
)
REFERENCE = NetworkConfig(architecture="mobilenet_v3_large_320_fpn")
CONFIG = DetectorTrainConfig(
    epochs=1, batch=4, warmup_steps=2, threads=1, precision="fp32", network=SMALL
)


@pytest.mark.parametrize("shape", [SMALL, REFERENCE], ids=["slim", "torchvision"])
def test_without_the_height_channel_only_colours_count(shape):
    image = torch.rand(1, 4, 240, 320)
    colour, height = image.clone(), image.clone()
    colour[:, :3] *= 0.5
    height[:, 3] = 0.1
    for channels, seen in (("rgb", False), ("rgbd", True)):
        torch.manual_seed(0)
        backbone = build_network(replace(shape, channels=channels)).eval().backbone
        with torch.no_grad():
            level, recoloured, raised = (
                next(iter(backbone(x).values())) for x in (image, colour, height)
            )
        assert not torch.equal(level, recoloured)
        assert torch.equal(level, raised) is not seen


def test_a_network_of_colours_keeps_the_runtimes_contract(data, tmp_path):
    config = replace(CONFIG, network=replace(SMALL, channels="rgb"))
    weights = load_weights(train(data, tmp_path, config))
    assert weights.config.channels == "rgb"
    detector = OnnxDetector(export_fp32(weights, tmp_path / "rgb.onnx"), score_threshold=0.01)
    image = calibration_images(coco.read(data), 1)[0]
    found = parity(weights, detector, [image])
    assert (found.same_count, found.images) == (1.0, 2)
    assert found.score < 1e-4
    raised = image.copy()
    raised[3] = 0.1
    for before, after in zip(detector.run(image), detector.run(raised), strict=True):
        assert len(before)
        np.testing.assert_array_equal(before, after)


def test_torchvisions_network_learns_from_the_same_data_and_is_measured_alike(data, tmp_path):
    path = train(data, tmp_path, replace(CONFIG, network=REFERENCE), validation=data)
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert np.isfinite(row["loss"])
    assert 0.0 <= row["ap"] <= row["ap50"] <= 1.0
    weights = load_weights(path)
    with torch.no_grad():
        found = weights.network([torch.rand(4, 240, 320)])[0]
    assert len(found["boxes"]) <= REFERENCE.max_detections
    with pytest.raises(ModelError, match="is there to compare with and is not exported"):
        export_fp32(weights, tmp_path / "no.onnx")


def test_torchvisions_opinions_by_class_become_one_detection_an_object():
    boxes = torch.tensor([[10.0, 10, 50, 50], [11, 10, 50, 50], [100, 100, 140, 140]])
    found = {
        "boxes": boxes, "scores": torch.tensor([0.9, 0.8, 0.7]), "labels": torch.tensor([1, 2, 1])
    }  # fmt: skip
    assert _distinct(found, REFERENCE)["labels"].tolist() == [1, 1]
    assert _distinct(found, replace(REFERENCE, max_detections=1))["scores"].tolist() == [
        pytest.approx(0.9)
    ]
    # The network itself does so when it detects, and leaves the losses alone when it learns.
    network = build_reference(replace(REFERENCE, max_detections=1))
    target = {"boxes": boxes[:1], "labels": torch.tensor([1])}
    image = torch.rand(4, 240, 320)
    assert "loss_classifier" in network.train()([image, image], [target, target])
    with torch.no_grad():
        assert len(network.eval()([image])[0]["boxes"]) <= 1
