from __future__ import annotations

import time

import numpy as np
import pytest

from perception.speed import interleaved_ms


def test_calls_take_turns_on_the_same_images_and_are_timed_apart():
    order = []

    def quick(image):
        order.append(("quick", int(image[0, 0, 0])))

    def slow(image):
        order.append(("slow", int(image[0, 0, 0])))
        time.sleep(0.004)

    images = [np.full((4, 2, 2), k, np.float32) for k in range(3)]
    steps = []
    times = interleaved_ms({"quick": quick, "slow": slow}, images, 2, steps.append)
    assert steps == [1, 2]
    assert {name: len(values) for name, values in times.items()} == {"quick": 6, "slow": 6}
    assert np.median(times["slow"]) > 4.0 > np.median(times["quick"])
    pairs = [set(order[i : i + 2]) for i in range(6, len(order), 2)]
    assert pairs == [{("quick", k), ("slow", k)} for k in [0, 1, 2, 0, 1, 2]]
    first = [order[i][0] for i in range(6, len(order), 2)]
    assert first == ["quick", "slow"] * 3


def test_torchvisions_detector_runs_on_one_thread_without_weights():
    torch = pytest.importorskip("torch")
    from perception.training.reference import reference_detector

    found = reference_detector()(np.full((4, 240, 320), 0.5, np.float32))
    assert torch.get_num_threads() == 1
    assert found[0]["boxes"].shape[1] == 4
