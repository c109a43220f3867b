"""Training in several processes."""

from __future__ import annotations

import json
import multiprocessing
import socket

import numpy as np
import pytest

from perception import coco
from robot.errors import ConfigError

torch = pytest.importorskip("torch")

from perception.training import data as data_module  # noqa: E402
from perception.training.data import AugmentConfig, DetectionData  # noqa: E402
from perception.training.parallel import Group, gathered, place  # noqa: E402
from tests.perception import two_processes  # noqa: E402


def test_processes_share_each_batch_without_overlap(data, monkeypatch):
    samples = DetectionData(coco.read(data))
    number = {id(sample): i for i, sample in enumerate(samples.samples)}
    monkeypatch.setattr(
        data_module, "augmented", lambda sample, _, rng: (number[id(sample)], rng.integers(1 << 30))
    )

    def epoch(rank=0, size=1):
        rng = np.random.default_rng(5)
        return list(samples.batches(4, AugmentConfig(), rng, rank, size))

    alone = epoch()
    first, second = epoch(0, 2), epoch(1, 2)
    assert len(alone) == len(first) == len(second) == 3
    for (images, _), (mine, luck), (theirs, other) in zip(alone, first, second, strict=True):
        assert [mine[0], theirs[0], mine[1], theirs[1]] == images
        assert not set(luck) & set(other)


@pytest.fixture(scope="module")
def pair(data, tmp_path_factory):
    """The folder in which two processes have worked, and how they ended."""
    out = tmp_path_factory.mktemp("pair")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=two_processes.work, args=(rank, port, data, out)) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    yield out, [process.exitcode for process in processes]
    for process in processes:
        process.kill()


def test_two_processes_end_with_equal_weights_and_resume(pair):
    out, _ = pair
    first, second = (torch.load(out / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    written = torch.load(out / "parts" / "weights.pt", weights_only=True)["network"]
    assert first["stopped"]
    assert second["stopped"]  # because the leader's time was over, not its own
    for name, value in first["whole"].items():
        assert torch.equal(value, second["whole"][name]), name
        assert torch.equal(value, first["resumed"][name]), name
        assert torch.equal(value, second["resumed"][name]), name
        assert torch.equal(value, written[name]), name
    assert "batch: 3 images cannot be shared equally by 2 processes" in second["refused"]


def test_only_the_leader_measures_writes_and_tells(pair):
    out, _ = pair
    rows = [json.loads(r) for r in (out / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert "ap" in rows[1]
    first, second = (torch.load(out / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    assert first["told"] == 4  # two epochs, the first step of each
    assert second["told"] == 0
    assert len(list((out / "whole" / "tensorboard").iterdir())) == 1


def test_a_process_that_loses_another_says_so_and_does_not_hang(pair):
    out, codes = pair
    assert codes == [0, 7]
    assert "process 0 of 2: lost another process" in (out / "lost.txt").read_text()


def test_the_environment_of_torchrun_is_checked(monkeypatch):
    assert place() == (0, 1, 0)
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ConfigError, match="WORLD_SIZE: expected a number, got 'two'"):
        place()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ConfigError, match="RANK: 2 of 2 processes"):
        place()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with (
        pytest.raises(ConfigError, match=r"process 1 of 2 met no other.*torchrun"),
        gathered(cuda=False),
    ):
        pass


def test_alone_nothing_is_shared():
    group = Group()
    network = torch.nn.Linear(2, 1)
    assert group.leads
    assert group.joined_network(network) is network
    assert group.told(3) == 3
    assert group.mean(torch.tensor([2.0])).tolist() == [2.0]
