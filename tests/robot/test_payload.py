"""A payload from torques: exact where the model is, and after a tare where it is not."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.errors import SensorError
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.payload import PayloadEstimator

LIMITS = load_limits("panda")
KINEMATICS = Kinematics(LIMITS)
HOME = LIMITS.home_rad


def torques(q: np.ndarray, mass_kg: float, centre_m: np.ndarray, wrong: float = 1.0) -> np.ndarray:
    """What an arm measures whose links weigh ``wrong`` times as much, with a load in its hand."""
    model = KINEMATICS.model.copy()
    for i in range(1, model.njoints):
        inertia = model.inertias[i]
        model.inertias[i] = pin.Inertia(inertia.mass * wrong, inertia.lever, inertia.inertia)
    tool = model.frames[KINEMATICS.tool_id]
    load = pin.Inertia(mass_kg, centre_m, np.eye(3) * 1e-4)
    if mass_kg > 0:
        model.appendBodyToJoint(int(tool.parentJoint), load, tool.placement)
    return np.array(pin.computeGeneralizedGravity(model, model.createData(), q))


@given(st.floats(0.1, 2.0), st.floats(-0.05, 0.05), st.floats(-0.05, 0.05), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_load_is_weighed_exactly_where_the_model_is(
    mass: float, x: float, z: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    q = HOME + rng.uniform(-0.3, 0.3, 7)
    estimate = PayloadEstimator(KINEMATICS).estimate(q, torques(q, mass, np.array([x, 0.0, z])))
    assert abs(estimate.mass_kg / mass - 1) < 0.02
    assert estimate.residual_nm < 0.01


def test_a_tare_makes_good_what_the_model_misses() -> None:
    rng = np.random.default_rng(1)
    nowhere = np.zeros(3)
    postures = HOME + rng.uniform(-0.6, 0.6, (11, 7))
    estimator = PayloadEstimator(KINEMATICS)
    q = HOME + rng.uniform(-0.2, 0.2, 7)
    untared = estimator.estimate(q, torques(q, 0.1, nowhere, wrong=1.3))
    assert abs(untared.mass_kg / 0.1 - 1) > 0.5
    left = estimator.tare(postures, np.array([torques(p, 0.0, nowhere, 1.3) for p in postures]))
    assert left < 0.01
    tared = estimator.estimate(q, torques(q, 0.1, nowhere, wrong=1.3))
    assert abs(tared.mass_kg / 0.1 - 1) < 0.1


@pytest.mark.parametrize("effort", [np.full(7, np.nan), np.zeros(6)])
def test_readings_that_are_none_are_refused(effort: np.ndarray) -> None:
    with pytest.raises(SensorError, match="payload"):
        PayloadEstimator(KINEMATICS).estimate(HOME, effort)


@pytest.mark.parametrize("name", ["panda", "iiwa14", "xarm6"])
def test_an_arm_in_simulation_lifts_boxes_and_weighs_them(name: str) -> None:
    from envs.weighing import weigh_boxes

    for row in weigh_boxes(load_limits(name), (0.1, 0.5)):
        assert row["estimate_kg"] == pytest.approx(row["mass_kg"], rel=0.1)
