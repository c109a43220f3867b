"""What each of two processes does in test_parallel: train, resume, and lose the other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from perception.session import ModelError  # noqa: E402
from perception.training import train as module  # noqa: E402
from perception.training.data import DetectionData  # noqa: E402
from perception.training.network import NetworkConfig  # noqa: E402
from perception.training.parallel import gathered  # noqa: E402
from robot.errors import ConfigError  # noqa: E402

CONFIG = module.DetectorTrainConfig(
    epochs=2, batch=4, warmup_steps=2, threads=1, device="cpu", precision="fp32",
    network=NetworkConfig(
        stage_channels=(16, 16, 32, 32), pyramid_channels=16, head_channels=32, proposals=30
    ),
)  # fmt: skip


def work(rank: int, port: int, data: Path, out: Path) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    networks: list[Any] = []
    build = module.build_network

    def remembered(config: NetworkConfig) -> Any:
        networks.append(build(config))
        return networks[-1]

    module.build_network = remembered
    told: list[dict[str, Any]] = []
    with gathered(cuda=False):
        module.train(data, out / "whole", CONFIG, data, told.append)
        stopped = module.train(data, out / "parts", CONFIG, stop_after_s=0.0 if not rank else 1e9)
        module.train(data, out / "parts", CONFIG)
        try:
            module.train(data, out / "odd", module.DetectorTrainConfig(batch=3, epochs=1))
        except ConfigError as error:
            refused = str(error)
        torch.save(
            {
                "whole": networks[0].state_dict(),
                "resumed": networks[2].state_dict(),
                "stopped": stopped is None,
                "told": len(told),
                "refused": refused,
            },
            out / f"rank{rank}.pt",
        )
        if rank:
            DetectionData.batches = lambda *_: os._exit(7)  # type: ignore[method-assign]
        try:
            module.train(data, out / "lost", CONFIG)
        except ModelError as error:
            (out / "lost.txt").write_text(str(error))
