from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from perception.frames import FileCamera, FrameError, read_colour, read_depth, write_frame
from robot.errors import ConfigError, SensorError, SteadyhandError
from tests.perception.blocks import Block, look


@pytest.fixture
def files(tmp_path):
    frame, _ = look([Block((0.45, 0.1), (0.06, 0.05, 0.05))], "wrist", stamp_s=3.5)
    return frame, {key: Path(path) for key, path in write_frame(frame, tmp_path / "v").items()}


def camera(files, **options) -> FileCamera:
    return FileCamera(files["image"], files["depth"], files["camera"], **options)


def changed(path: Path, **values) -> Path:
    """A copy of a camera's file with other values; None leaves a key out."""
    content = yaml.safe_load(path.read_text()) | values
    out = path.with_name("changed.yaml")
    out.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    return out


def test_a_frame_that_is_written_is_read_back(files):
    frame, paths = files
    again = camera(paths).read()
    assert (again.camera, again.stamp_s) == ("wrist", 3.5)
    assert again.intrinsics == frame.intrinsics
    np.testing.assert_array_equal(again.rgb, frame.rgb)
    np.testing.assert_array_equal(again.depth_m, frame.depth_m)
    np.testing.assert_allclose(again.X_world_cam.matrix, frame.X_world_cam.matrix, atol=1e-12)
    assert sorted(p.name for p in paths["image"].parent.iterdir()) == [
        "wrist.png", "wrist.yaml", "wrist_depth.npy",
    ]  # fmt: skip


def test_a_depth_image_of_16_bits_is_in_its_unit(files, tmp_path):
    frame, paths = files
    png = tmp_path / "depth.png"
    cv2.imwrite(str(png), np.rint(frame.depth_m / 2e-4).astype(np.uint16))
    read = camera({**paths, "depth": png}, depth_unit_m=2e-4).read()
    np.testing.assert_allclose(read.depth_m, frame.depth_m, atol=1.01e-4)


def test_without_a_name_a_camera_is_called_after_its_file(files):
    _, paths = files
    assert camera({**paths, "camera": changed(paths["camera"], name=None)}).name == "changed"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"width_px": 640, "cx_px": 319.5}, ("320x240", "640x240")),
        ({"cx_px": 400.0}, ("cx_px", "400", "320 px")),
        ({"cy_px": -1.0}, ("cy_px", "-1", "240 px")),
        ({"fx_px": 20.0}, ("fx_px", "20", "degrees")),
        ({"fy_px": 280000.0}, ("fy_px", "degrees")),
        ({"fx_px": 0.0}, ("focal lengths",)),
        ({"fx_px": None}, ("fx_px", "missing")),
        ({"focal_px": 3.0}, ("focal_px", "unknown key")),
        ({"X_world_cam": {"position_m": [0, 0, -1.0], "quat_xyzw": [0, 0, 0, 1]}}, ("above",)),
        ({"X_world_cam": {"position_m": [0, 0, 1.0], "quat_xyzw": [0, 0, 0, 2]}}, ("quaternion",)),
        ({"X_world_cam": {"position_m": [0, 0, 1.0]}}, ("quat_xyzw", "missing")),
    ],
)
def test_a_camera_that_does_not_fit_is_refused(files, values, words):
    _, paths = files
    with pytest.raises((FrameError, ConfigError)) as caught:
        camera({**paths, "camera": changed(paths["camera"], **values)})
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_that_do_not_fit_are_refused(files, tmp_path):
    frame, paths = files
    small = tmp_path / "small.png"
    cv2.imwrite(str(small), np.ascontiguousarray(frame.rgb[::2, ::2]))
    with pytest.raises(FrameError, match=r"small\.png: is 160x120 px, but .* 320x240"):
        camera({**paths, "image": small})
    depth = tmp_path / "small.npy"
    np.save(depth, frame.depth_m[::2])
    with pytest.raises(FrameError, match=r"small\.npy: is 320x120 px"):
        camera({**paths, "depth": depth})


def test_files_that_are_missing_or_damaged_are_named(files, tmp_path, capfd):
    _, paths = files
    cut, empty, text = tmp_path / "cut.png", tmp_path / "empty.jpg", tmp_path / "text.npy"
    cut.write_bytes(paths["image"].read_bytes()[:800])
    empty.write_bytes(b"")
    text.write_text("no numbers")
    for path in (cut, empty):
        with pytest.raises(FrameError, match=rf"{path.name}: not a readable image"):
            read_colour(path)
    with pytest.raises(FrameError, match="not an NPY file"):
        read_depth(text, 0.001)
    for call in (lambda p: read_colour(p), lambda p: read_depth(p, 0.001)):
        for name in ("none.png", "none.npy"):
            with pytest.raises(FrameError, match=rf"{name}: no such file"):
                call(tmp_path / name)
    with pytest.raises(FrameError, match="16 bits and one channel, got uint8 with 3"):
        read_depth(paths["image"], 0.001)
    flat = tmp_path / "flat.npy"
    np.save(flat, np.zeros((240, 320), np.int32))
    with pytest.raises(FrameError, match=r"floats in m, got \(240, 320\) int32"):
        read_depth(flat, 0.001)
    with pytest.raises(FrameError, match="depth unit"):
        read_depth(paths["depth"], 0.0)
    assert capfd.readouterr() == ("", "")  # the libraries keep quiet


def test_colour_and_depth_must_be_of_one_moment(files):
    _, paths = files
    late = changed(paths["camera"], depth_stamp_s=4.3)
    with pytest.raises(SensorError, match=r"colour and depth are 0\.800 s apart"):
        camera({**paths, "camera": late}).read()
    assert camera({**paths, "camera": late}, max_skew_s=1.0).read().stamp_s == 3.5


def test_all_errors_are_ones_that_the_command_line_knows():
    assert issubclass(FrameError, SteadyhandError)
