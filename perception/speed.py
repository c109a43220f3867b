"""Latency of several detectors, measured in turn on the same images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Call = Callable[[NDArray[np.float32]], Any]


def interleaved_ms(
    calls: Mapping[str, Call],
    images: Sequence[NDArray[np.float32]],
    rounds: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Times each call on each image, one after the other, ``rounds`` times over.

    In turns, so that all see the same noise of the machine; who begins changes with every image.

    Args:
        calls: by name.
        images: (4, H, W) float32, as ``perception.detector.network_input`` makes them.
        rounds: over all images.
        progress: called with the number of rounds done.

    Returns:
        (rounds * images,) ms for each name.
    """
    names = list(calls)
    for call in calls.values():  # warm up: memory is allocated, code is loaded
        for image in images[:3]:
            call(image)
    times: dict[str, list[float]] = {name: [] for name in names}
    turn = 0
    for number in range(rounds):
        for image in images:
            for name in names[turn:] + names[:turn]:
                began = time.perf_counter()
                calls[name](image)
                times[name].append((time.perf_counter() - began) * 1e3)
            turn = (turn + 1) % len(names)
        if progress:
            progress(number + 1)
    return {name: np.array(values) for name, values in times.items()}
