"""An episode as a film: H.264 in MP4, made and read by the ffmpeg that imageio-ffmpeg brings."""

from __future__ import annotations

import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robot.errors import SteadyhandError

CODEC, PIXELS = "h264", "yuv420p"


def encode(frames: NDArray[np.uint8], rate_hz: float) -> bytes:
    """The film of frames (T, H, W, 3) uint8, RGB.

    Raises:
        SteadyhandError: H.264 cannot have that size, or ffmpeg failed (as on a full disk).
    """
    import imageio_ffmpeg

    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise SteadyhandError(
            f"film: expected frames (T, H, W, 3) uint8, got {frames.shape} {frames.dtype}"
        )
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise SteadyhandError(f"film: height and width must be even, got {height} x {width}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"  # an index needs a file that can be gone back in
        # Every second frame whole, as LeRobot has it: training reads frames in random order.
        # fmt: off
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
            "-r", str(Fraction(rate_hz).limit_denominator(1000)), "-i", "-", "-an",
            "-c:v", "libx264", "-pix_fmt", PIXELS, "-preset", "veryfast", "-crf", "23",
            "-g", "2", "-threads", "1", "-movflags", "+faststart", str(path),
        ]
        # fmt: on
        done = subprocess.run(command, input=frames.tobytes(), capture_output=True, check=False)
        if done.returncode or not path.exists():
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise SteadyhandError(
                f"film: ffmpeg failed: {said[-1] if said else f'exit code {done.returncode}'}"
            )
        return path.read_bytes()


def decode(path: Path) -> NDArray[np.uint8]:
    """The frames (T, H, W, 3) uint8, RGB, of a film.

    Raises:
        SteadyhandError: it is missing or broken.
    """
    import imageio_ffmpeg

    if not path.is_file():
        raise SteadyhandError(f"{path}: there is no such film")
    reader = imageio_ffmpeg.read_frames(str(path))
    try:
        width, height = next(reader)["size"]
        data = b"".join(reader)
    except (OSError, RuntimeError, KeyError, StopIteration) as error:
        raise SteadyhandError(f"{path}: is no whole film") from error
    finally:
        reader.close()
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)
