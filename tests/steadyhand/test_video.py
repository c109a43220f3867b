from __future__ import annotations

import logging
import re
import subprocess
import sys
import textwrap

import imageio_ffmpeg
import numpy as np
import pytest

from robot.errors import RecordingError
from steadyhand.video import Caption, VideoWriter, captioned

SIZE = (160, 120)


def picture(k: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    w, h = size
    image = np.zeros((h, w, 3), np.uint8)
    image[:, : max(1, (8 * k) % w)] = (200, 40, 40)
    return image


def probe(path) -> str:
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    done = subprocess.run([ffmpeg, "-i", str(path)], capture_output=True, text=True, check=False)
    return done.stderr


def test_it_is_h264_yuv420p_with_its_index_first(tmp_path):
    path = tmp_path / "video.mp4"
    with VideoWriter(path, 20.0, SIZE) as video:
        for k in range(30):
            assert video.write(picture(k), Caption("descend", 1, 5, k / 20))
        assert not path.exists()
    said = probe(path)
    assert re.search(r"Video: h264 .*yuv420p", said) and "160x120" in said and "20 fps" in said
    assert re.search(r"Duration: 00:00:01\.50", said)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert [p.name for p in tmp_path.iterdir()] == ["video.mp4"]
    assert video.frames == 30 and video.failed is None


def test_frames_come_back_as_they_went_in(tmp_path):
    path = tmp_path / "v.mp4"
    with VideoWriter(path, 10, SIZE, quality=10) as video:
        for k in range(12):
            video.write(picture(k))
    reader = imageio_ffmpeg.read_frames(str(path))
    assert next(reader)["codec"] == "h264"
    frames = [np.frombuffer(f, np.uint8).reshape(120, 160, 3) for f in reader]
    assert len(frames) == 12
    for k in (1, 5, 11):
        assert np.abs(frames[k].astype(int) - picture(k)).mean() < 8


def test_other_sizes_are_scaled_and_the_caption_is_drawn(tmp_path):
    image = picture(3, (320, 240))
    shown = captioned(image, Caption("carry", 2, 5, 12.3, "HALT", "policy"))
    assert shown.shape == image.shape and (shown[:200] == image[:200]).all()
    assert (shown[-12:] != image[-12:]).any()
    assert (image == picture(3, (320, 240))).all()  # the caller's image is left alone
    red = captioned(image, Caption("", 0, 0, 0.0, "HALT")).astype(int)
    green = captioned(image, Caption("", 0, 0, 0.0, "OK")).astype(int)
    assert np.abs(red - green).max() > 100
    with VideoWriter(tmp_path / "v.mp4", 10, SIZE) as video:
        assert video.write(image)
    assert "160x120" in probe(tmp_path / "v.mp4")


@pytest.mark.parametrize("size", [(161, 120), (160, 8), (0, 0)])
def test_sizes_that_h264_cannot_have_are_named(tmp_path, size):
    with pytest.raises(RecordingError, match="expected even numbers"):
        VideoWriter(tmp_path / "v.mp4", 10, size)


def test_bad_frames_and_folders_are_named(tmp_path):
    with pytest.raises(RecordingError, match="the folder does not exist"):
        VideoWriter(tmp_path / "no" / "v.mp4", 10, SIZE)
    with pytest.raises(RecordingError, match="must be > 0"):
        VideoWriter(tmp_path / "v.mp4", 0, SIZE)
    with (
        VideoWriter(tmp_path / "v.mp4", 10, SIZE) as video,
        pytest.raises(RecordingError, match=r"expected \(H, W, 3\) uint8"),
    ):
        video.write(np.zeros((120, 160), np.uint8))


def test_without_frames_there_is_no_file(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", 10, SIZE):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_dies_stops_the_film_and_nothing_else(tmp_path, caplog):
    path = tmp_path / "v.mp4"
    video = VideoWriter(path, 10, SIZE)
    assert video.write(picture(0))
    video._encoder.kill()
    with caplog.at_level(logging.WARNING):
        dropped = [video.write(picture(k)) for k in range(200)].count(False)
        video.close()
    assert dropped > 100 and video.failed
    assert sum("stopped" in r.message for r in caplog.records) == 1
    assert list(tmp_path.iterdir()) == []
    assert not video.write(picture(0))


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits as on Linux")
def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    """The kernel refuses every byte beyond 20 kB, in the encoder as well."""
    code = f"""
        import resource, signal
        from pathlib import Path
        import numpy as np
        from steadyhand.video import VideoWriter
        # ffmpeg inherits both: the limit, and that going beyond it is an error, not a signal.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        rng = np.random.default_rng(0)
        with VideoWriter(Path({str(tmp_path / "v.mp4")!r}), 20, (160, 120)) as video:
            for _ in range(60):
                video.write(rng.integers(0, 255, (120, 160, 3), dtype=np.uint8))
        print(video.failed)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() not in ("", "None")
    assert run.stderr.count("stopped") == 1
    assert list(tmp_path.iterdir()) == []
