from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from perception import coco
from perception.detector import OnnxDetector, network_input
from perception.session import ModelError
from robot.errors import SensorError
from robot.types import CameraIntrinsics, RgbdFrame
from tests.perception.blocks import Block, look
from tests.perception.conftest import CLASSES

torch = pytest.importorskip("torch")

from torchvision.ops import box_iou  # noqa: E402

from perception.training.data import AugmentConfig, DetectionData, Sample, augmented  # noqa: E402
from perception.training.export import (  # noqa: E402
    QuantizeConfig,
    calibration_images,
    export_detector,
    load_weights,
    parity,
)
from perception.training.network import (  # noqa: E402
    NetworkConfig,
    build_network,
    parameter_count,
)
from perception.training.train import DetectorTrainConfig, train  # noqa: E402

# Small enough for seconds, whole in kind.
NETWORK = NetworkConfig(
    stage_channels=(16, 16, 32, 32),
    pyramid_channels=16,
    head_channels=32,
    proposals=30,
    doubtful=0.3,
)
CONFIG = DetectorTrainConfig(
    epochs=6, batch=4, warmup_steps=4, learning_rate=3e-3, threads=1, precision="fp32",
    validate_every=6, network=NETWORK,
)  # fmt: skip


def test_the_second_head_learns_from_closer_boxes_and_classes_share_one_box():
    torch.manual_seed(0)
    heads = build_network(NETWORK).roi_heads
    truth = {"boxes": torch.tensor([[10.0, 10.0, 50.0, 50.0]]), "labels": torch.tensor([3])}
    # Overlaps of 1, 0.75 and 0.55: the last is no positive for the second head.
    boxes = torch.tensor([[10.0, 10, 50, 50], [10, 10, 50, 40], [10, 10, 50, 32]])
    labels, wanted = heads._refined_targets([boxes], [truth])
    assert labels[0].tolist() == [3, 3, 0]
    decoded = heads.refine_coder.decode(wanted[0], [boxes]).reshape(-1, 4)
    torch.testing.assert_close(decoded, truth["boxes"].expand(3, 4))
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    labels, _ = heads._refined_targets([boxes], [nothing])
    assert labels[0].tolist() == [0, 0, 0]
    assert heads.box_predictor.bbox_pred.out_features == 4


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A finished tiny run and its export."""
    out = tmp_path_factory.mktemp("run")
    weights = train(data, out, CONFIG, validation=data)
    figures = export_detector(weights, out, coco.read(data), QuantizeConfig(images=6), "abc1234")
    return out, figures


def test_the_slim_network_is_as_large_as_designed():
    count = parameter_count(build_network(NetworkConfig()))
    assert 6.5e6 < count < 7.5e6


def test_a_loss_on_images_with_and_without_objects():
    network = build_network(NETWORK).train()
    images = [torch.rand(4, 240, 320), torch.rand(4, 240, 320)]
    targets = [
        {"boxes": torch.tensor([[10.0, 10, 60, 60]]), "labels": torch.tensor([2])},
        {"boxes": torch.zeros((0, 4)), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    loss = sum(network(images, targets).values())
    assert torch.isfinite(loss)
    loss.backward()


@torch.no_grad()
def test_proposals_are_few_inside_the_image_and_apart():
    torch.manual_seed(0)
    config = replace(NETWORK, proposals=20, proposal_iou=0.5)
    network = build_network(config).eval()
    images = network.transform([torch.rand(4, 240, 320), torch.rand(4, 240, 320)])[0]
    proposals, losses = network.rpn(images, network.backbone(images.tensors))
    assert losses == {} and len(proposals) == 2
    for boxes in proposals:
        assert 5 < len(boxes) <= 20
        assert (boxes >= 0).all() and (boxes <= torch.tensor([320, 240, 320, 240])).all()
        overlap = box_iou(boxes, boxes) - torch.eye(len(boxes))
        assert overlap.max() <= 0.5


@torch.no_grad()
def test_what_the_first_head_doubts_does_not_reach_the_second():
    torch.manual_seed(0)
    heads = (network := build_network(NETWORK).eval()).roi_heads
    told, reached = [], []
    heads.box_predictor.register_forward_hook(lambda _, __, out: told.append(out[0].softmax(-1)))
    heads.refine_head.register_forward_pre_hook(lambda _, inputs: reached.append(len(inputs[0])))
    image = torch.rand(4, 240, 320)
    heads.doubtful = 0.0
    network([image])
    heads.doubtful = float((1 - told[0][:, 0]).median())
    network([image])
    assert reached[0] == len(told[0])
    assert 0 < reached[1] <= len(told[0]) // 2 + 1


def test_augmentation_moves_boxes_with_their_pixels():
    height = np.zeros((240, 320), np.int16)
    height[100:150, 140:200] = 500
    sample = Sample(
        np.full((240, 320, 3), 90, np.uint8), height,
        np.array([[140, 100, 200, 150]], np.float32), np.array([2]),
    )  # fmt: skip
    config = replace(
        AugmentConfig(), height_offset_m=0.0, height_noise_m=0.0, dropout=0.0, zoom=1.0
    )
    rng = np.random.default_rng(0)
    moved = 0
    for _ in range(30):
        image, target = augmented(sample, config, rng)
        standing = image[3].numpy() > 0.02
        assert target["labels"].tolist() == [2]
        rows = np.flatnonzero(standing.any(axis=1))
        columns = np.flatnonzero(standing.any(axis=0))
        seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(target["boxes"][0].numpy(), seen, atol=1.01)
        moved += seen != [140, 100, 200, 150]
    assert moved > 20


def test_augmentation_repeats_with_its_seed(data):
    sample = DetectionData(coco.read(data)).samples[0]
    first, _ = augmented(sample, AugmentConfig(), np.random.default_rng(1))
    second, _ = augmented(sample, AugmentConfig(), np.random.default_rng(1))
    other, _ = augmented(sample, AugmentConfig(), np.random.default_rng(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_training_learns(run):
    rows = [json.loads(line) for line in (run[0] / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 7))
    assert rows[-1]["loss"] < 0.85 * rows[0]["loss"]
    assert "ap50" in rows[-1]


def test_an_interrupted_run_ends_with_the_same_weights(data, tmp_path):
    config = replace(CONFIG, epochs=2)
    whole = torch.load(train(data, tmp_path / "a", config), weights_only=True)
    assert train(data, tmp_path / "b", config, stop_after_s=0.0) is None
    resumed = torch.load(train(data, tmp_path / "b", config), weights_only=True)
    for name, value in whole["network"].items():
        assert torch.equal(value, resumed["network"][name]), name


def test_a_finished_run_can_be_made_longer(data, tmp_path):
    train(data, tmp_path / "run", replace(CONFIG, epochs=1))
    assert train(data, tmp_path / "run", replace(CONFIG, epochs=2)) is not None
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2]


def test_a_checkpoint_from_before_a_setting_existed_goes_on(data, tmp_path):
    train(data, tmp_path, replace(CONFIG, epochs=1))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for name in ("device", "backbone_weights", "frozen_stages"):
        del state["config"][name]
    for name in ("architecture", "channels"):
        del state["config"]["network"][name]
    del state["scaler"]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match="choose another folder"):
        train(data, tmp_path, replace(CONFIG, epochs=2, frozen_stages=1))
    assert train(data, tmp_path, replace(CONFIG, epochs=2)) is not None
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2]


def test_a_folder_of_another_run_is_refused(data, run):
    with pytest.raises(ModelError, match="choose another folder"):
        train(data, run[0], replace(CONFIG, learning_rate=1e-4))


def test_other_classes_than_the_data_are_refused(data, tmp_path):
    config = replace(CONFIG, network=replace(NETWORK, classes=("thing",)))
    with pytest.raises(ModelError, match="configured for"):
        train(data, tmp_path, config)


def test_the_exported_graph_equals_torch(run, data):
    _, figures = run
    weights = load_weights(run[0] / "weights.pt")
    # A threshold near zero, so that even a barely trained network gives boxes to compare.
    images = calibration_images(coco.read(data), 6)
    found = parity(weights, OnnxDetector(figures["fp32"], score_threshold=0.01), images)
    assert found.images == 7
    assert found.same_count == 1.0
    assert found.box_px < 0.01
    assert found.score < 1e-4
    assert figures["int8_bytes"] < 0.9 * figures["fp32_bytes"]


def test_the_shipped_graph_carries_what_its_user_needs(run, data):
    _, figures = run
    detector = OnnxDetector(figures["int8"], score_threshold=0.05)
    assert detector.classes == CLASSES
    assert (detector.width_px, detector.height_px) == (320, 240)
    assert detector.metadata["precision"] == "int8"
    assert detector.metadata["git_commit"] == "abc1234"
    assert len(detector.metadata["config_hash"]) == 12
    frame = coco.read(data).frame(0)
    found = detector.detect(frame)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    assert OnnxDetector(figures["int8"].read_bytes(), score_threshold=1.0).detect(frame) == []


def test_validation_images_choose_calibration_and_threshold(run, data, tmp_path, capfd):
    held_out = coco.read(data)
    config = QuantizeConfig(images=6, methods=("minmax", "percentile"))
    figures = export_detector(run[0] / "weights.pt", tmp_path, held_out, config, "-", held_out)
    assert set(figures["ap"]) == {"fp32", "minmax", "percentile"}
    assert figures["ap"][figures["method"]] == max(
        figures["ap"][name] for name in ("minmax", "percentile")
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "detector.onnx",
        "detector_fp32.onnx",
    ]
    detector = OnnxDetector(figures["int8"])
    assert detector.score_threshold == float(detector.metadata["best_threshold"])
    assert OnnxDetector(run[1]["int8"]).score_threshold == 0.4
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("text", ["much", "1.5", "nan"])
def test_a_bad_threshold_in_the_file_is_named(run, tmp_path, text):
    model = onnx.load(str(run[1]["int8"]))
    model.metadata_props.add(key="best_threshold", value=text)
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(ModelError, match="best_threshold"):
        OnnxDetector(tmp_path / "bad.onnx")


def test_an_image_without_anything_works(run):
    for name in ("fp32", "int8"):
        detector = OnnxDetector(run[1][name])
        boxes, scores, labels = detector.run(np.zeros((4, 240, 320), np.float32))
        assert boxes.shape == (len(scores), 4)
        assert len(labels) == len(scores)


def test_a_frame_that_does_not_fit_is_refused(run):
    detector = OnnxDetector(run[1]["int8"])
    frame, _ = look([])
    small = CameraIntrinsics(160, 120, 200, 200, 79.5, 59.5)
    wrong = RgbdFrame("overhead", 0, frame.rgb[::2, ::2], frame.depth_m[::2, ::2], small,
                      frame.X_world_cam)  # fmt: skip
    with pytest.raises(SensorError, match="160x120 px, the detector takes 320x240"):
        detector.detect(wrong)
    blind = RgbdFrame("overhead", 0, frame.rgb, np.zeros_like(frame.depth_m), frame.intrinsics,
                      frame.X_world_cam)  # fmt: skip
    with pytest.raises(SensorError, match="no pixel has a valid depth"):
        detector.detect(blind)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kind", "something", "metadata 'kind'"),
        ("input", "{}", "metadata 'input'"),
        ("outputs", "[]", "metadata 'outputs'"),
        ("classes", "[]", "'classes' must be"),
        ("classes", "nonsense", "'classes' must be"),
    ],
)
def test_a_model_with_other_metadata_is_refused(run, tmp_path, key, value, message):
    model = onnx.load(run[1]["int8"])
    for item in model.metadata_props:
        if item.key == key:
            item.value = value
    path = tmp_path / "other.onnx"
    onnx.save(model, path)
    with pytest.raises(ModelError, match=message) as error:
        OnnxDetector(path)
    assert "other.onnx" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_broken_models_are_named(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        OnnxDetector(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07nonsense")
    with pytest.raises(ModelError, match="is not a model that runs here"):
        OnnxDetector(broken)
    with pytest.raises(ModelError, match="no such file"):
        load_weights(tmp_path / "none.pt")
    (tmp_path / "bad.pt").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="not a detector's weights"):
        load_weights(tmp_path / "bad.pt")


def test_the_input_is_colour_and_height():
    frame, _ = look([Block((0.45, 0.0), (0.1, 0.1, 0.05))])
    image = network_input(frame)
    assert image.shape == (4, 240, 320)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[:3], frame.rgb.transpose(2, 0, 1) / 255.0, atol=1e-6)
    assert abs(image[3].max() - 0.05) < 1e-4
