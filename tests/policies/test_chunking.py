"""Action chunks: what is cut from the demonstrations, how they blend, and that they act."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reach_env import EXPERT, REACH

from policies.compression.quantize import QuantizeConfig, quantize_policy
from policies.demos.dataset import Demonstrations, load_demonstrations
from policies.demos.record import RecordConfig, record
from policies.edge.chunks import Chunking, ChunkMemory
from policies.edge.runtime import EdgePolicy
from policies.evaluation.rollouts import Behaviour, Rollouts, episode_seeds
from policies.evaluation.specs import ActorSpec
from policies.learning.chunking import (
    ChunkingConfig,
    ChunkingNetwork,
    load_network,
    recorded_inputs,
)
from policies.learning.clone import CloneConfig, clone
from policies.learning.dagger import DaggerConfig, dagger
from policies.learning.export import check_parity, export_onnx, policy_metadata
from policies.learning.frames import split_frames, windows
from policies.learning.network import NetworkConfig, PolicyNetwork
from robot.errors import ConfigError, SafetyError, SteadyhandError

TINY = ChunkingConfig(
    history=3, horizon=4, width=32, heads=2, encoder_layers=1, decoder_layers=1, feedforward=32
)
SMALL = CloneConfig(
    architecture="chunking",
    chunking=TINY,
    epochs=12,
    batch_size=128,
    learning_rate=5e-3,
    threads=1,
)


@pytest.fixture(scope="module")
def cloned(reach_demos: Demonstrations, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chunking")
    clone(reach_demos, folder, SMALL)
    return folder / "network.pt"


@pytest.fixture(scope="module")
def network(cloned: Path) -> ChunkingNetwork:
    loaded = load_network(cloned)
    assert isinstance(loaded, ChunkingNetwork)
    return loaded


@pytest.fixture(scope="module")
def file(
    network: ChunkingNetwork,
    reach_demos: Demonstrations,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("chunking") / "policy.onnx"
    path.write_bytes(export_onnx(network, policy_metadata(reach_demos.spec, "hash")))
    return path


def test_windows_and_chunks_stay_within_their_episode(reach_demos: Demonstrations) -> None:
    groups = sorted(set(reach_demos.groups))
    train, held = split_frames([reach_demos], groups[:2], Chunking(history=3, horizon=4))
    alone, _ = split_frames([reach_demos], groups[:2], None)
    assert len(train) + len(held) == len(reach_demos.observation)
    assert torch.equal(train.observation, alone.observation)
    rows = torch.arange(len(train))
    x, y, counts = train.batch(rows)
    assert counts is not None
    assert x.shape[1:] == (3, 4) and y.shape[1:] == (4, 2)
    # Each episode lasts 25 steps and has a target of its own, so a stranger would show.
    assert torch.equal(x[:, :, 1], train.observation[:, 1:2].expand(-1, 3))
    step = rows % 25
    for back in range(3):
        seen = train.observation[rows - torch.minimum(step, torch.tensor(back))]
        assert torch.equal(x[:, 2 - back], seen)
    for ahead in range(4):
        there = step + ahead < 25
        assert torch.equal(counts[:, ahead], there)
        assert torch.equal(y[there][:, ahead], train.action[rows[there] + ahead])


def test_of_corrections_only_the_first_action_counts(reach_demos: Demonstrations) -> None:
    group = reach_demos.groups[0]
    train, _ = split_frames([reach_demos] * 2, [group], Chunking(history=2, horizon=3))
    half = len(train) // 2
    assert train.counts is not None
    assert train.counts[:half, 1:].any()
    assert train.counts[half:, 0].all() and not train.counts[half:, 1:].any()


def direct(chunks: list[np.ndarray], decay: float) -> np.ndarray:
    """The blend written as its definition says: over every chunk that speaks of the last step."""
    horizon, now = len(chunks[0]), len(chunks) - 1
    ages = [k for k in range(horizon) if now - k >= 0]
    weights = np.array([math.exp(-decay * k) for k in ages])
    said = np.stack([chunks[now - k][k] for k in ages])
    return (weights[:, None] * said).sum(axis=0) / weights.sum()


@given(
    steps=st.integers(1, 12),
    horizon=st.integers(1, 5),
    decay=st.floats(-1.0, 100.0),
    seed=st.integers(0, 1000),
)
def test_the_blend_is_its_definition(steps: int, horizon: int, decay: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    memory = ChunkMemory(Chunking(1, horizon, decay), 1, 2)
    for _ in range(2):  # a reset forgets the first episode
        memory.reset()
        chunks: list[np.ndarray] = []
        for _ in range(steps):
            chunks.append(rng.uniform(-1, 1, (horizon, 2)).astype(np.float32))
            action = memory.blend(chunks[-1])
            assert action.dtype == np.float32
            assert np.abs(action - direct(chunks, decay)).max() < 1e-6


@given(history=st.integers(1, 6), steps=st.integers(1, 10))
def test_the_window_at_run_time_is_the_one_learned_from(history: int, steps: int) -> None:
    seen = np.arange(steps, dtype=np.float32)[:, None]
    rows = windows(np.array([0, steps]), history)
    memory = ChunkMemory(Chunking(history, 1, 0.0), 1, 1)
    memory.see(np.array([-7.0], dtype=np.float32))
    memory.reset()
    for t in range(steps):
        assert np.array_equal(memory.see(seen[t]), seen[rows[t]])


def test_it_learns_the_expert_and_resumes_to_the_same_bits(
    reach_demos: Demonstrations, network: ChunkingNetwork, tmp_path: Path
) -> None:
    def interrupt(epoch: int, epochs: int, figures: dict[str, float]) -> None:
        if epoch == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clone(reach_demos, tmp_path, SMALL, progress=interrupt)
    resumed = clone(reach_demos, tmp_path, SMALL).network
    a, b = network.state_dict(), resumed.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    seeds = list(episode_seeds(99, 0, 40))
    with Rollouts(REACH, workers=0) as rollouts:
        episodes = list(rollouts.run(Behaviour(network.actor()), seeds))
    assert np.mean([e.success for e in episodes]) >= 0.9


def test_onnx_and_both_runtimes_agree_with_torch(
    network: ChunkingNetwork, file: Path, reach_demos: Demonstrations
) -> None:
    inputs = recorded_inputs(network, reach_demos)
    parity = check_parity(network, file.read_bytes(), inputs, np.random.default_rng(0))
    assert parity.nan_passes_on
    names = reach_demos.spec.observation_names
    edge = EdgePolicy(file, "fp32", names=names)
    actor = network.actor().make(None)
    memory = ChunkMemory(TINY.chunking, 4, 2)
    for episode in range(2):
        for policy in (edge, actor, memory):
            policy.reset()
        for t in range(reach_demos.starts[episode], reach_demos.starts[episode + 1]):
            with torch.no_grad():
                chunk = network(torch.from_numpy(inputs[t : t + 1]))[0].numpy()
            expected = memory.blend(chunk)
            x = reach_demos.observation[t]
            assert np.abs(edge.act(x) - expected).max() < 1e-5
            assert np.abs(actor.act(x) - expected).max() < 1e-5
    with pytest.raises(SafetyError, match="is not finite at 'target'"):
        edge.act(np.array([0, np.nan, 0, 0], dtype=np.float32))


def test_a_bad_reading_leaves_no_trace_in_the_history(file: Path) -> None:
    names = ("position", "target", "error", "constant")
    a, b = (EdgePolicy(file, "fp32", names=names) for _ in range(2))
    good = np.array([0.1, 0.5, 0.4, 1.0], dtype=np.float32)
    bad = np.full(4, np.inf, dtype=np.float32)
    for policy in (a, b):
        policy.act(good)
    with pytest.raises(SafetyError):
        a.act(bad)
    assert np.array_equal(a.act(2 * good), b.act(2 * good))


def test_int8_keeps_the_products_of_activations_in_fp32(
    network: ChunkingNetwork, file: Path, reach_demos: Demonstrations
) -> None:
    model = file.read_bytes()
    int8, error = quantize_policy(
        model, recorded_inputs(network, reach_demos), QuantizeConfig(samples=500)
    )
    assert error.mean < 0.02
    (file.parent / "int8.onnx").write_bytes(int8)
    policy = EdgePolicy(file.parent / "int8.onnx", names=reach_demos.spec.observation_names)
    assert policy.metadata.precision == "int8"
    assert policy.metadata.chunking == TINY.chunking


def test_dagger_goes_on_from_chunks(tmp_path: Path) -> None:
    record(tmp_path / "few", REACH, EXPERT, RecordConfig(episodes=6, seed=1, workers=0))
    fit = replace(SMALL, epochs=3, validation_share=0.3)
    config = DaggerConfig(clone=fit, rounds=1, episodes=4, workers=0)
    result = dagger(load_demonstrations(tmp_path / "few"), REACH, EXPERT, tmp_path / "run", config)
    assert isinstance(result.network, ChunkingNetwork)
    assert isinstance(load_network(tmp_path / "run" / "network.pt"), ChunkingNetwork)


def test_what_does_not_fit_is_one_clear_line(
    cloned: Path, file: Path, reach_demos: Demonstrations, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"chunking.heads: 3 must divide chunking.width \(32\)"):
        replace(TINY, heads=3)
    with pytest.raises(SteadyhandError, match="history and a horizon of at least 1"):
        Chunking(0, 4, 0.0)
    perceptron = PolicyNetwork(NetworkConfig((8,)), np.zeros(4), np.ones(4), 2)
    with pytest.raises(SteadyhandError, match="initial network: does not fit the config"):
        clone(reach_demos, None, SMALL, initial=perceptron)
    perceptron.save(tmp_path / "network.pt")
    assert isinstance(load_network(tmp_path / "network.pt"), PolicyNetwork)
    with pytest.raises(SteadyhandError, match="is not a policy network"):
        PolicyNetwork.load(cloned)
    plain = export_onnx(perceptron, policy_metadata(reach_demos.spec, "hash"))
    with pytest.raises(SteadyhandError, match="gives one action at a time"):
        ActorSpec("policies.evaluation.actors:ChunkingActor", {"model": plain}).make(None)
