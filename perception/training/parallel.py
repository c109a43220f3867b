"""Training in several processes that torchrun starts: who leads, and what they agree on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from perception.session import ModelError
from robot.errors import ConfigError

# A step that takes longer than this has lost a process; rendering and measuring may well.
_STEP = timedelta(minutes=30)
_WAIT = timedelta(days=3)
_HOW = "start several processes with torchrun, as in docs/perception.md"


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that train one network together; alone where there is only one.

    Attributes:
        rank: of this process; 0 leads: it alone writes and measures.
        size: number of processes.
        waiting: torch's group for what takes long, on the processors' own channel.
    """

    rank: int = 0
    size: int = 1
    waiting: Any = None

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every process is here."""
        self.told(0)

    def told(self, value: int) -> int:
        """The leader's ``value``, in every process, once all have come to ask."""
        if self.size == 1:
            return value
        said = torch.tensor([value])
        dist.barrier(group=self.waiting)
        dist.broadcast(said, 0, group=self.waiting)
        return int(said.item())

    def mean(self, values: Tensor) -> Tensor:
        """``values``, averaged over the processes."""
        values = values.detach().clone()
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def joined_network(self, network: nn.Module) -> nn.Module:
        """The network to train with: gradients are averaged over the processes.

        It shares its weights with ``network``. Batch norms see the images of their own process.
        """
        if self.size == 1:
            return network
        with warnings.catch_warnings():
            # Newer versions of torch have another name for it, older ones only this.
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
            return DistributedDataParallel(network, broadcast_buffers=False)

    def average_statistics(self, network: nn.Module) -> None:
        """Makes the batch norms' statistics those of all processes' images."""
        for statistic in network.buffers() if self.size > 1 else ():
            if statistic.is_floating_point():
                statistic.copy_(self.mean(statistic))


def place() -> tuple[int, int, int]:
    """Rank, number of processes and rank on this machine, as torchrun says.

    Raises:
        ConfigError: the environment's RANK, LOCAL_RANK or WORLD_SIZE make no sense.
    """
    found = []
    for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")):
        text = os.environ.get(name, default)
        if not text.isdigit():
            raise ConfigError(f"environment variable {name}: expected a number, got {text!r}")
        found.append(int(text))
    rank, size, local = found
    if size <= 1:
        return 0, 1, 0
    if rank >= size:
        raise ConfigError(f"environment variable RANK: {rank} of {size} processes; {_HOW}")
    return rank, size, local


@contextmanager
def gathered(cuda: bool) -> Iterator[Group]:
    """The group of this process, left at the end by who entered it first.

    Args:
        cuda: whether the network is on GPUs, whose gradients then go over NCCL instead of gloo.

    Raises:
        ConfigError: the environment names several processes, but not where they meet.
        ModelError: another process was lost, inside the block.
    """
    rank, size, _ = place()
    if size == 1:
        yield Group()
        return
    mine = not dist.is_initialized()
    if mine:
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_STEP)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"process {rank} of {size} met no other: {reason}; {_HOW}") from error
    try:
        yield Group(rank, size, dist.new_group(timeout=_WAIT, backend="gloo"))
    except RuntimeError as error:
        if not _lost(error):
            raise
        raise ModelError(
            f"process {rank} of {size}: lost another process, see its own message; the run "
            "goes on from its last checkpoint"
        ) from error
    finally:
        if mine:
            dist.destroy_process_group()


def _lost(error: RuntimeError) -> bool:
    """Whether an error tells that a peer is gone: gloo's own are plain RuntimeErrors."""
    text = str(error).lower()
    known = isinstance(error, getattr(dist, "DistError", ()))
    return known or any(word in text for word in ("gloo", "nccl", "connection closed"))
