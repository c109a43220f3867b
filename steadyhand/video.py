"""The film of a run: H.264 that browsers play, written beside its final name and renamed."""

from __future__ import annotations

import logging
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from robot.errors import RecordingError

_log = logging.getLogger(__name__)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_INK, _DIM = (245, 245, 245), (170, 178, 190)
_LAMP = {"OK": (61, 190, 122), "SCALE": (240, 173, 60), "HALT": (232, 84, 84)}


@dataclass(frozen=True)
class Caption:
    """What stands over one frame.

    Attributes:
        phase: the current phase, e.g. ``descend``.
        cleared, total: objects put away, of how many.
        time_s: time of the frame, s.
        verdict: ``OK``, ``SCALE`` or ``HALT``: the colour of the lamp.
        note: one more short line, e.g. which policy acts.
    """

    phase: str
    cleared: int
    total: int
    time_s: float
    verdict: str = "OK"
    note: str = ""


def captioned(rgb: NDArray[np.uint8], caption: Caption) -> NDArray[np.uint8]:
    """A copy of an image (H, W, 3) uint8 with the caption in a dark strip along its lower edge."""
    out = np.ascontiguousarray(rgb).copy()
    h, w = out.shape[:2]
    size = max(w / 1280, 0.32)  # of the letters; below this they cannot be read
    strip = round(54 * size)
    band = out[h - strip :]
    band[:] = (band * 0.25 + np.array([4, 6, 9])).astype(np.uint8)
    line, middle = max(1, round(1.4 * size)), h - strip // 2
    lamp = round(8 * size)
    left = round(22 * size)
    colour = _LAMP.get(caption.verdict, _DIM)
    cv2.circle(out, (left, middle), lamp, colour, -1, cv2.LINE_AA)

    def put(text: str, x: int, ink: tuple[int, int, int], from_right: bool = False) -> int:
        (wide, tall), _ = cv2.getTextSize(text, _FONT, 0.72 * size, line)
        at = x - wide if from_right else x
        cv2.putText(out, text, (at, middle + tall // 2), _FONT, 0.72 * size, ink, line, cv2.LINE_AA)
        return at if from_right else at + wide

    gap = round(24 * size)
    x = put(caption.phase, left + round(20 * size), _INK)
    if caption.note:
        put(caption.note, x + gap, _DIM)
    x = put(f"{caption.cleared} of {caption.total} cleared", w - round(18 * size), _INK, True)
    put(f"{caption.time_s:5.1f} s", x - gap, _DIM, True)
    return out


class VideoWriter:
    """Writes frames into an MP4 file (H.264, yuv420p, index first).

    Like a recording, a film is never worth stopping the arm for: when writing fails, ``failed``
    says why, one warning is logged, and later frames are dropped. The file appears under its
    name when the writer is closed, and not at all when no frame was written.

    Raises:
        RecordingError: from the constructor, for a size that H.264 cannot have or a missing
            folder.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int], quality: int = 23) -> None:
        """``size`` is (width, height), px, even; ``quality`` is x264's CRF, less is better."""
        self.path = Path(path)
        self.size = (int(size[0]), int(size[1]))
        self.failed: str | None = None
        self.frames = 0
        if min(self.size) < 16 or any(n % 2 for n in self.size):
            raise RecordingError(f"video size {self.size}: expected even numbers of at least 16 px")
        if fps <= 0:
            raise RecordingError(f"video fps: must be > 0: {fps}")
        if not self.path.parent.is_dir():
            raise RecordingError(f"{self.path}: the folder does not exist")
        self._fps = fps
        self._quality = quality
        self._temporary = self.path.with_name(f".{self.path.stem}.part.mp4")
        self._encoder: subprocess.Popen[bytes] | None = None
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the writer
        self._closed = False

    def write(self, rgb: NDArray[np.uint8], caption: Caption | None = None) -> bool:
        """Add a frame, (H, W, 3) uint8, brought to the film's size; False when it was dropped."""
        if self._closed or self.failed:
            return False
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise RecordingError(
                f"video frame: expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}"
            )
        if (rgb.shape[1], rgb.shape[0]) != self.size:
            rgb = np.asarray(cv2.resize(rgb, self.size, interpolation=cv2.INTER_AREA), np.uint8)
        if caption is not None:
            rgb = captioned(rgb, caption)
        try:
            if self._encoder is None:
                self._encoder = self._start()
            pipe = self._encoder.stdin
            if pipe is not None:
                pipe.write(rgb.tobytes())
        except OSError as error:
            encoder, self._encoder = self._encoder, None
            reason = self._finish(encoder) if encoder is not None else None
            self._fail(reason or str(error))
            return False
        self.frames += 1
        return True

    def close(self) -> None:
        """Finish the film and give it its name; more than once is fine."""
        if self._closed:
            return
        self._closed = True
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            reason = self._finish(encoder)
            if reason is not None:
                self._fail(reason)
        if not self.failed and self.frames:
            try:
                self._temporary.replace(self.path)
            except OSError as error:
                self._fail(error.strerror or str(error))
        self._complaints.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes]:
        import imageio_ffmpeg

        width, height = self.size
        # fmt: off
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
            "-r", str(Fraction(self._fps).limit_denominator(1000)), "-i", "-", "-an",
            "-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast",
            "-crf", str(self._quality), "-threads", "2", "-movflags", "+faststart",
            str(self._temporary),
        ]
        # fmt: on
        # Its own session: Ctrl-C is for us, and the film is then finished in good order. What it
        # complains of goes to a file, since nobody reads a pipe while frames are being written.
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
            start_new_session=True,
        )

    def _finish(self, encoder: subprocess.Popen[bytes]) -> str | None:
        """Ends the encoder; why it failed, or None."""
        with suppress(OSError):
            encoder.communicate()
        if encoder.returncode == 0:
            return None
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[0] if said else f"ffmpeg ended with {encoder.returncode}"

    def _fail(self, reason: str) -> None:
        self.failed = reason
        _log.warning("video %s stopped: %s", self.path, reason)
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)
