"""Torch, ONNX, int8 and the edge runtime compute the same, and bad input is refused."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from policies.compression.quantize import QuantizeConfig, action_error, quantize_policy
from policies.demos.dataset import Demonstrations
from policies.edge.metadata import PolicyMetadata
from policies.edge.runtime import EdgePolicy
from policies.learning.clone import IGNORED_STD
from policies.learning.export import check_parity, export_onnx, narrowed, policy_metadata
from policies.learning.network import NetworkConfig, PolicyNetwork
from robot.errors import SafetyError, SteadyhandError

NAMES = ("position", "target", "error", "constant")


def network_for(demos: Demonstrations, activation: str = "relu") -> PolicyNetwork:
    torch.manual_seed(1)
    x = demos.observation
    shape = NetworkConfig(hidden=(64, 64), activation=activation)  # type: ignore[arg-type]
    network = PolicyNetwork(shape, x.mean(0), x.std(0), 2)
    network.head.weight.data.mul_(20.0)
    return network


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_onnx_equals_torch(reach_demos: Demonstrations, activation: str) -> None:
    network = network_for(reach_demos, activation)
    model = export_onnx(network, policy_metadata(reach_demos.spec, "abc"))
    parity = check_parity(network, model, reach_demos.observation, np.random.default_rng(0))
    assert max(parity.recorded, parity.random) <= 1e-5
    assert parity.nan_passes_on
    graph = onnx.load_from_string(model).graph
    assert [o.name for o in graph.output] == ["action"]


def test_what_is_ignored_does_not_travel(reach_demos: Demonstrations) -> None:
    network = network_for(reach_demos)
    network.normalizer.std[[0, 3]] = IGNORED_STD
    grasp = replace(reach_demos, spec=replace(reach_demos.spec, env={}))
    small, demos = narrowed(network, grasp)
    assert demos.spec.observation_names == ("target", "error")
    x = torch.from_numpy(reach_demos.observation)
    assert torch.allclose(network.raw(x), small.raw(x[:, 1:3]), atol=1e-6)
    assert np.array_equal(demos.observation, reach_demos.observation[:, 1:3])
    assert narrowed(network, reach_demos)[0] is network  # its environment gives one vector


def test_parity_notices_another_network(reach_demos: Demonstrations) -> None:
    network = network_for(reach_demos)
    model = export_onnx(network, policy_metadata(reach_demos.spec, "abc"))
    network.head.bias.data[0] += 1e-3
    with pytest.raises(SteadyhandError, match="differ by 1.0"):
        check_parity(network, model, reach_demos.observation, np.random.default_rng(0))


def test_metadata_go_there_and_back(reach_demos: Demonstrations) -> None:
    model = export_onnx(network_for(reach_demos), policy_metadata(reach_demos.spec, "abc"))
    props = {p.key: p.value for p in onnx.load_from_string(model).metadata_props}
    metadata = PolicyMetadata.from_props(props)
    assert metadata.observation_names == NAMES
    assert metadata.observation_units == ("m", "m", "m", "")
    assert (metadata.config_hash, metadata.policy_rate_hz) == ("abc", 20.0)
    with pytest.raises(SteadyhandError, match="carries no Steadyhand metadata"):
        PolicyMetadata.from_props({})
    with pytest.raises(SteadyhandError, match="version 9 is not supported"):
        PolicyMetadata.from_props({**props, "steadyhand.version": "9"})


def test_int8_is_close_and_smaller(reach_demos: Demonstrations) -> None:
    torch.manual_seed(1)
    x = reach_demos.observation
    network = PolicyNetwork(NetworkConfig(), x.mean(0), x.std(0), 2)
    network.head.weight.data.mul_(20.0)
    model = export_onnx(network, policy_metadata(reach_demos.spec, "abc"))
    quantized, error = quantize_policy(model, x, QuantizeConfig(samples=500))
    assert 0.0 < error.mean < 0.01 and error.max < 0.1
    assert len(quantized) < 0.4 * len(model)
    kinds = {n.op_type for n in onnx.load_from_string(quantized).graph.node}
    assert "QuantizeLinear" in kinds
    assert action_error(model, model, x).max == 0.0
    with pytest.raises(SteadyhandError, match="max_mean_error"):
        quantize_policy(model, x, QuantizeConfig(samples=500, max_mean_error=1e-6))


@pytest.fixture(scope="module")
def policy_file(reach_demos: Demonstrations, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edge") / "policy.onnx"
    network = network_for(reach_demos)
    path.write_bytes(export_onnx(network, policy_metadata(reach_demos.spec, "abc")))
    return path


def test_the_edge_policy_acts_like_the_network(
    reach_demos: Demonstrations, policy_file: Path
) -> None:
    network = network_for(reach_demos)
    policy = EdgePolicy(policy_file, names=NAMES)
    kept = []
    for x in reach_demos.observation[:40]:
        action = policy.act(x)
        expected = network(torch.from_numpy(x[None]))[0].detach().numpy()
        assert action.shape == (2,) and action.dtype == np.float32
        assert np.abs(action - expected).max() <= 1e-5
        kept.append((action, action.copy()))
    assert all(np.array_equal(a, b) for a, b in kept)  # an action given out is never overwritten


def test_what_it_sees_is_picked_by_name(reach_demos: Demonstrations, policy_file: Path) -> None:
    plain = EdgePolicy(policy_file, names=NAMES)
    robot = ("noise", *reversed(NAMES), "more")
    units = ("", *reversed(reach_demos.spec.observation_units), "kg")
    policy = EdgePolicy(policy_file, names=robot, units=units)
    for x in reach_demos.observation[:10]:
        whole = np.array(
            [np.nan, *x[::-1], 7.0], dtype=np.float32
        )  # what it does not see may be bad
        assert np.array_equal(policy.act(whole), plain.act(x))
        assert np.array_equal(policy.act(x), plain.act(x))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", range(4))
def test_a_reading_that_is_not_finite_halts(policy_file: Path, value: float, at: int) -> None:
    policy = EdgePolicy(policy_file, names=NAMES)
    x = np.zeros(4, dtype=np.float32)
    before = policy.act(x)
    x[at] = value
    with pytest.raises(SafetyError, match=NAMES[at]):
        policy.act(x)
    assert np.array_equal(policy.act(np.zeros(4, dtype=np.float32)), before)


def test_a_policy_for_something_else_is_refused(policy_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SteadyhandError, match="was made for 4 observations; .*'position'"):
        EdgePolicy(policy_file)
    with pytest.raises(SteadyhandError, match="observation 'target' is none of those"):
        EdgePolicy(policy_file, names=("position", "goal", "error", "constant"))
    with pytest.raises(SteadyhandError, match="is in 'm' in the policy and in 'mm'"):
        EdgePolicy(policy_file, names=NAMES, units=("m", "mm", "m", ""))
    policy = EdgePolicy(policy_file, names=NAMES)
    with pytest.raises(SteadyhandError, match=r"expected an observation of shape \(4,\)"):
        policy.act(np.zeros(5, dtype=np.float32))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(policy_file.read_bytes()[:200])
    with pytest.raises(SteadyhandError, match="is not a model that runs here"):
        EdgePolicy(broken, names=NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"action_scale": {"linear_m_s": 0.5, "yaw_rad_s": 1.5, "opening_m": 0.08}},
            "action scale",
        ),
        ({"policy_rate_hz": 10.0}, "control ticks a policy step: 24"),
        ({"frames": {"observation": "world", "action": "grasp"}}, "frames"),
        ({"action_names": ("vx", "vy", "vz", "opening", "yaw")}, "actions"),
    ],
)
def test_a_policy_that_acts_otherwise_is_refused(
    tmp_path: Path, change: dict, message: str
) -> None:
    from policies.edge.metadata import robot_observation

    names, units = robot_observation()
    fits = PolicyMetadata(
        names,
        ("vx", "vy", "vz", "yaw", "opening"),
        units,
        action_scale={"linear_m_s": 0.25, "yaw_rad_s": 1.5, "opening_m": 0.08},
        frames={"observation": "grasp", "action": "grasp"},
    )
    n = len(names)
    network = PolicyNetwork(NetworkConfig(hidden=(8,)), np.zeros(n), np.ones(n), 5)
    file = tmp_path / "policy.onnx"
    file.write_bytes(export_onnx(network, fits))
    EdgePolicy(file)
    file.write_bytes(export_onnx(network, replace(fits, **change)))
    with pytest.raises(SteadyhandError, match=message):
        EdgePolicy(file)


def test_an_action_takes_microseconds(policy_file: Path) -> None:
    policy = EdgePolicy(policy_file, names=NAMES)
    x = np.zeros(4, dtype=np.float32)
    times = []
    for _ in range(3000):
        start = time.perf_counter()
        policy.act(x)
        times.append(time.perf_counter() - start)
    # The median of a quiet machine is about 10 us; the bound leaves room for a busy one.
    assert np.median(times) < 100e-6


def test_the_runtime_loads_no_torch_and_no_simulator(policy_file: Path) -> None:
    code = (
        "import sys, policies.edge.runtime, policies.bundle.format, policies.bundle.verify\n"
        f"policies.edge.runtime.EdgePolicy({str(policy_file)!r}, names={NAMES!r})\n"
        "bad = {'torch', 'pybullet', 'gymnasium', 'pyarrow', 'onnx'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(bad)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_metadata_must_fit_the_network(reach_demos: Demonstrations) -> None:
    metadata = policy_metadata(reach_demos.spec, "abc")
    with pytest.raises(SteadyhandError, match="the metadata names 3 and 2"):
        export_onnx(network_for(reach_demos), replace(metadata, observation_names=NAMES[:3]))
