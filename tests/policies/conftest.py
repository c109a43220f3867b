"""Makes the small environment of these tests importable here and in worker processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from reach_env import EXPERT, REACH

from policies.demos.dataset import Demonstrations, load_demonstrations
from policies.demos.record import RecordConfig, record


@pytest.fixture(scope="session")
def reach_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded set of 60 episodes."""
    root = tmp_path_factory.mktemp("demos") / "reach"
    config = RecordConfig(episodes=60, seed=3, workers=0, noise_std=(0.3,))
    record(root, REACH, EXPERT, config)
    return root


@pytest.fixture(scope="session")
def reach_demos(reach_root: Path) -> Demonstrations:
    """The same set, loaded."""
    return load_demonstrations(reach_root)
