from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from perception import coco
from perception.coco import DatasetError
from perception.detector import OnnxDetector
from perception.precision import precision_difference
from perception.session import ModelError
from robot.types import RgbdFrame
from tests.perception.blocks import Block, look

torch = pytest.importorskip("torch")

from perception.training.adapt import (  # noqa: E402
    FIGURES,
    AdaptConfig,
    Sets,
    adapt_detector,
    average,
    recalibrate,
)
from perception.training.agreement import agreed, merged  # noqa: E402
from perception.training.export import QuantizeConfig, export_fp32, load_weights  # noqa: E402
from perception.training.network import NetworkConfig, build_network  # noqa: E402
from perception.training.pseudo import (  # noqa: E402
    Judged,
    PseudoConfig,
    certain_part,
    judge,
    painted,
    write_pseudo_set,
)
from perception.training.restyle import depth_gain, grain, repaired, restyled  # noqa: E402
from perception.training.train import DetectorTrainConfig, train  # noqa: E402

CLASSES = ("box", "cylinder", "ball", "irregular")
NETWORK = NetworkConfig(
    stage_channels=(16, 16, 32, 32), pyramid_channels=16, head_channels=32, proposals=30
)
BLOCKS = (
    Block((0.40, -0.08), (0.09, 0.05, 0.05)),
    Block((0.55, 0.08), (0.07, 0.05, 0.06), class_name="ball"),
)
WHOLE = np.array([0, 0, 320, 240], np.float32)


def dark(frame: RgbdFrame) -> RgbdFrame:
    """The frame in dim orange light, by a camera whose depth is 2 % too far."""
    rgb = (frame.rgb * np.array([0.5, 0.35, 0.15])).astype(np.uint8)
    return replace(frame, rgb=rgb, depth_m=frame.depth_m * np.float32(1.02))


def written(root, scenes: int, change=lambda frame: frame, labelled: bool = True):
    rng = np.random.default_rng(len(root.name))
    writer = coco.CocoWriter(root, CLASSES)
    for scene in range(scenes):
        for camera in ("overhead", "wrist"):
            frame, found = look(BLOCKS, camera, rng=rng, sigma_m=0.001)
            labels = [
                {"bbox": list(d.box_xywh_px), "category_id": CLASSES.index(d.class_name) + 1,
                 "area": 1.0, "iscrowd": 0}
                for d in found
            ]  # fmt: skip
            mask = np.zeros((240, 320), np.uint8)
            writer.add(change(frame), mask, labels if labelled else [], scene)
    writer.close({})
    return coco.read(root)


def test_boxes_that_views_agree_on_become_one_and_lone_ones_count_less():
    a = np.array([[10, 10, 50, 50]], np.float32)
    b = np.array([[14, 10, 54, 50], [200, 100, 240, 140]], np.float32)
    views = [
        (a, np.array([0.9], np.float32), np.array([1])),
        (b, np.array([0.3, 0.8], np.float32), np.array([2, 3])),
    ]
    boxes, scores, labels = merged(views, [WHOLE, WHOLE], 0.55)
    np.testing.assert_allclose(boxes[0], [11, 10, 40, 40], atol=1e-4)  # weighted 3 : 1
    np.testing.assert_allclose(scores, [0.6, 0.4], atol=1e-6)
    assert labels.tolist() == [1, 3]
    # A view that could not see the place has no say.
    _, scores, _ = merged(views, [np.array([0, 0, 100, 100], np.float32), WHOLE], 0.55)
    np.testing.assert_allclose(scores, [0.8, 0.6], atol=1e-6)


def test_every_view_is_brought_back_to_the_image():
    """A detector that finds what stands finds it in each changed copy, at its place."""

    def run(image):
        rows, columns = np.nonzero(image[3] > 0.02)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return np.array([box], np.float32), np.ones(1, np.float32), np.ones(1, np.int64)

    image = np.full((4, 240, 320), 0.3, np.float32)
    image[3] = 0.0
    image[3, 100:150, 140:200] = 0.05
    boxes, scores, _ = agreed(run, image)
    np.testing.assert_allclose(boxes, [[140, 100, 60, 50]], atol=0.6)
    assert scores.tolist() == [1.0]


def test_depth_decides_with_the_detector_what_is_a_label_and_what_nobody_knows():
    pairs = [look(BLOCKS, camera) for camera in ("overhead", "wrist")]
    frames = [frame for frame, _ in pairs]
    truth = [[d.box_xywh_px for d in found] for _, found in pairs]
    calls = iter(range(100))

    def run_for(scores, extra=()):
        def run(_):
            number = next(calls) % 6
            boxes = np.array([truth[number // 3][0], *extra], np.float32)
            boxes[:, 2:] += boxes[:, :2]
            if number % 3 == 1:
                boxes[:, [0, 2]] = 320 - boxes[:, [2, 0]]
            if number % 3 == 2:  # enlarged: nothing more
                return boxes[:0], np.zeros(0, np.float32), np.zeros(0, np.int64)
            return boxes, np.array(scores, np.float32), np.ones(len(boxes), np.int64)

        return run

    config = PseudoConfig(sure=0.5, doubtful=0.2)
    flat = (20.0, 200.0, 40.0, 30.0)  # nothing stands there
    judged = judge(run_for([0.9, 0.99], [flat]), frames, config)
    for one, boxes in zip(judged, truth, strict=True):
        np.testing.assert_allclose(one.boxes, [boxes[0]], atol=0.5)
        places = [tuple(np.rint(box).astype(int)) for box in one.unknown]
        assert (20, 200, 40, 30) in places  # sure, but flat
        others = [box for box in one.unknown if abs(box[0] - 20) > 1]
        (heap,) = others  # the second block stands there and was not found
        centre = heap[:2] + heap[2:] / 2
        wanted = np.array(boxes[1][:2]) + np.array(boxes[1][2:]) / 2
        assert np.abs(centre - wanted).max() < 6
    # Alone either view is in doubt; together they are sure.
    alone = judge(run_for([0.6]), frames[:1], config)[0]
    assert len(alone.boxes) == 0
    calls = iter(range(100))
    both = judge(run_for([0.6]), frames, config)
    assert [len(one.boxes) for one in both] == [1, 1]


def test_what_nobody_knows_is_painted_over_but_no_label_is():
    frame, found = look(BLOCKS)
    x, y, w, h = found[1].box_xywh_px
    box = np.array([found[0].box_xywh_px], np.float32)
    judged = Judged(box, np.ones(1, np.int64), np.ones(1, np.float32), np.array([[x, y, w, h]]))
    out = painted(frame, judged)
    part = (slice(int(y), int(y + h)), slice(int(x), int(x + w)))
    assert (out.depth_m[part] == 0).all()
    assert np.abs(out.rgb[part].astype(int) - [120, 110, 100]).max() < 10  # the table's colour
    bx, by, bw, bh = (int(v) for v in box[0])
    kept = (slice(by, by + bh), slice(bx, bx + bw))
    np.testing.assert_array_equal(out.depth_m[kept], frame.depth_m[kept])
    np.testing.assert_array_equal(out.rgb[kept], frame.rgb[kept])


def test_a_restyled_image_has_the_light_grain_and_depth_of_the_example():
    rng = np.random.default_rng(0)
    source, _ = look(BLOCKS)
    example = dark(look(BLOCKS[:1], "wrist")[0])
    noisy = np.clip(example.rgb + rng.normal(0, 6, example.rgb.shape), 0, 255).astype(np.uint8)
    holed = example.depth_m.copy()
    holed[50:90, 60:120] = 0.0
    example = replace(example, rgb=noisy, depth_m=holed)
    out = restyled(source, example, rng)
    assert np.abs(out.rgb.mean((0, 1)) - example.rgb.mean((0, 1))).max() < 4
    assert grain(out.rgb) == pytest.approx(grain(example.rgb), rel=0.25)
    assert depth_gain(source) == pytest.approx(1.0, abs=1e-3)
    assert depth_gain(out) == pytest.approx(1.02, abs=2e-3)
    places = (out.depth_m[55:85, 65:115], out.depth_m[55:85, 320 - 115 : 320 - 65])
    assert any((place == 0).all() for place in places)


def test_batch_norms_take_the_statistics_of_new_images():
    network = build_network(NETWORK).eval()
    images = [torch.full((4, 240, 320), 0.1 * i) for i in range(1, 4)]
    norm = network.backbone.stem[1]
    recalibrate(network, network.backbone, images)
    batch = network.transform(images)[0].tensors
    seen = network.backbone.stem[0](batch)
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert norm.momentum == 0.1
    assert not norm.training


def test_weights_are_averaged_with_the_first_ones():
    torch.manual_seed(0)
    first, last = build_network(NETWORK), build_network(NETWORK)
    first.backbone.stem[1].running_mean.fill_(2.0)
    a, b = (n.backbone.stem[0].weight.detach().clone() for n in (first, last))
    average(last, first, 0.25)
    torch.testing.assert_close(last.backbone.stem[0].weight.detach(), 0.25 * a + 0.75 * b)
    assert last.backbone.stem[1].running_mean.tolist() == [0.5] * 8
    torch.testing.assert_close(first.backbone.stem[0].weight.detach(), a)


def test_what_is_lost_at_an_edge_comes_back_on_its_own_side():
    frame, _ = look(BLOCKS)
    edge = np.zeros((240, 320), bool)
    jump = np.abs(np.diff(frame.depth_m, axis=1)) > 0.02
    edge[:, 1:] |= jump
    edge[:, :-1] |= jump
    worse = np.where(edge, np.float32(0.0), frame.depth_m * np.float32(1.02))
    better = repaired(replace(frame, depth_m=worse)).depth_m
    assert edge.sum() > 100
    assert np.quantile(np.abs(better - frame.depth_m)[edge], 0.8) < 0.01
    assert np.abs(better - frame.depth_m)[~edge].max() < 0.002
    empty = replace(frame, depth_m=np.zeros_like(frame.depth_m))
    assert repaired(empty) is empty


def test_the_difference_of_two_detectors_is_judged_on_the_same_scenes(tmp_path):
    data = written(tmp_path / "set", 3)
    truth = [data.boxes(int(entry["id"])) for entry in data.images]
    right = [(t.xywh_px, np.ones(len(t.labels), np.float32), t.labels) for t in truth]
    wrong = [(boxes + 100, scores, labels) for boxes, scores, labels in right]
    scene = [0, 0, 1, 1, 2, 2]
    assert precision_difference(truth, right, right, scene) == [0.0, 0.0]
    low, high = precision_difference(truth, wrong, right, scene)
    assert low == high == pytest.approx(1.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny detector that knows plain boxes in good light."""
    root = tmp_path_factory.mktemp("known")
    written(root / "set", 6)
    config = DetectorTrainConfig(
        epochs=6, batch=4, warmup_steps=4, learning_rate=3e-3, threads=1, precision="fp32",
        validate_every=6, network=NETWORK,
    )  # fmt: skip
    return train(root / "set", root / "run", config)


TINY = AdaptConfig(
    rounds=2, epochs=1, batch=4, warmup_steps=2, pseudo=PseudoConfig(sure=0.3, doubtful=0.1),
    int8=QuantizeConfig(images=2),
)  # fmt: skip


def test_adapting_leaves_a_detector_and_its_figures_and_resumes(weights, tmp_path):
    frames = written(tmp_path / "frames", 3, dark, labelled=False)
    sets = Sets(
        frames,
        written(tmp_path / "replay", 3),
        written(tmp_path / "labelled", 2, dark),
        written(tmp_path / "old", 2),
    )
    said: list[str] = []
    out = tmp_path / "out"
    result = adapt_detector(weights, sets, out, TINY, said.append, "abc1234")
    assert [one["frames"] for one in result["rounds"]] == [6, 6]
    assert [one["restyled"] for one in result["rounds"]] == [6, 6]
    for look_name in ("new_look", "old_look"):
        figures = result[look_name]
        for name in ("before", "after", "after_int8"):
            low, high = figures[name]["ap_ci95"]
            assert 0.0 <= low <= figures[name]["ap"] + 1e-6 <= high + 2e-6 <= 1.00001
        low, high = figures["gain"]["ap_ci95"]
        assert low <= figures["gain"]["ap"] + 1e-6
    assert json.loads((out / FIGURES).read_text())["config"]["rounds"] == 2
    assert OnnxDetector(out / "detector.onnx").metadata["precision"] == "int8"
    assert OnnxDetector(out / "detector_fp32.onnx").metadata["git_commit"] == "abc1234"
    assert load_weights(out / "weights.pt").config == NETWORK
    said.clear()
    again = adapt_detector(weights, sets, out, TINY, said.append)
    assert all(line.startswith("measure:") for line in said)
    assert again["new_look"] == result["new_look"]
    with pytest.raises(ModelError, match=r"holds a run with config_hash"):
        adapt_detector(weights, sets, out, replace(TINY, epochs=2), said.append)


def test_labels_of_the_frames_are_not_read(weights, tmp_path):
    sets = [written(tmp_path / f"frames{n}", 1, dark, labelled=bool(n)) for n in range(2)]
    run = OnnxDetector(export_fp32(load_weights(weights), tmp_path / "judge.onnx")).run
    for number, frames in enumerate(sets):
        write_pseudo_set(tmp_path / f"out{number}", run, frames, None, TINY.pseudo, seed=0)
    first, second = (coco.read(tmp_path / f"out{n}") for n in range(2))
    assert first.annotations == second.annotations
    assert certain_part(first, 10) is None


def test_restyled_images_are_the_certain_part(weights, tmp_path):
    frames = written(tmp_path / "frames", 2, dark, labelled=False)
    replay = written(tmp_path / "replay", 4)
    run = OnnxDetector(export_fp32(load_weights(weights), tmp_path / "judge.onnx")).run
    config = PseudoConfig(restyled=1.0, replayed=0.5)
    count = write_pseudo_set(tmp_path / "out", run, frames, replay, config, seed=0)
    assert (count["frames"], count["restyled"], count["replayed"]) == (4, 4, 2)
    data = coco.read(tmp_path / "out")
    part = certain_part(data, 2)
    assert [entry["id"] for entry in part.images] == [5, 7]
    for index in range(2):
        assert len(part.boxes(int(part.images[index]["id"])).labels) == 2
        red, _, blue = part.frame(index).rgb.mean(axis=(0, 1))
        assert red > 1.5 * blue


def test_sets_that_do_not_fit_are_refused_before_anything_is_written(weights, tmp_path):
    frames = written(tmp_path / "frames", 1, dark)
    out = tmp_path / "out"
    for key, words in (("X_world_cam", "no 'X_world_cam'"), ("depth_file", "no 'depth_file'")):
        bad = coco.CocoDataset(frames.root, CLASSES, [
            {k: v for k, v in entry.items() if k != key} for entry in frames.images
        ])  # fmt: skip
        with pytest.raises(DatasetError, match=words):
            adapt_detector(weights, Sets(bad), out, TINY, print)
    with pytest.raises(DatasetError, match="holds no image"):
        adapt_detector(weights, Sets(coco.CocoDataset(frames.root, CLASSES)), out, TINY, print)
    large = coco.CocoDataset(frames.root, CLASSES, [{**e, "width": 640} for e in frames.images])
    with pytest.raises(DatasetError, match=r"640x240 px, the detector takes 320x240"):
        adapt_detector(weights, Sets(large), out, TINY, print)
    other = coco.CocoDataset(frames.root, ("thing",), frames.images)
    with pytest.raises(DatasetError, match="classes"):
        adapt_detector(weights, Sets(other), out, TINY, print)
    assert not out.exists()
