"""Contact and slip are told from the fingers' own readings; force and opening stay limited."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.errors import SteadyhandError
from robot.execution.gripper import GripperConfig, GripperController
from robot.limits import load_limits
from robot.types import GripperState

LIMITS = load_limits("panda").gripper


def close_on(gripper: GripperController, width_m: float, ticks: int = 240) -> GripperState:
    """Fingers closing at their full speed onto something rigid of a width; 0 is nothing."""
    opening, state = 0.08, None
    for _ in range(ticks):
        opening = max(opening - LIMITS.max_speed_m_s / 240, width_m)
        force = 40.0 if opening == width_m else 0.0
        state = gripper.update([(opening, force)], 0.0)
    assert state is not None
    return state


@given(st.floats(-1, 1), st.floats(0, 500))
def test_commands_are_cut_to_what_the_gripper_can_do(opening, force):
    command = GripperController(LIMITS).command(opening, force)
    assert command.opening_m == min(max(opening, 0.0), 0.08)
    assert command.force_n == min(force, 70.0)


def test_the_configured_force_and_its_limit():
    assert GripperController(LIMITS).command(0.0).force_n == 40.0
    weak = GripperController(LIMITS, GripperConfig(force_limit_n=20.0))
    assert weak.command(0.0).force_n == 20.0
    assert weak.command(0.0, 5.0).force_n == 5.0


@pytest.mark.parametrize(("opening", "force"), [(math.nan, 1.0), (0.04, math.nan), (0.04, -1.0)])
def test_a_command_that_is_no_number_is_refused(opening, force):
    with pytest.raises(SteadyhandError, match="gripper command"):
        GripperController(LIMITS).command(opening, force)


@given(st.floats(0.003, 0.075))
def test_stopped_on_something_is_contact(width):
    state = close_on(GripperController(LIMITS), width)
    assert state.contact
    assert not state.slip
    assert state.opening_m == width


def test_closed_on_nothing_is_no_contact_however_hard_it_presses():
    assert not close_on(GripperController(LIMITS), 0.0).contact


def test_still_moving_or_not_pressing_or_opening_is_no_contact():
    gripper = GripperController(LIMITS)
    for k in range(30):
        assert not gripper.update([(0.06 - k * 4e-4, 10.0)], 0.0).contact  # friction while it moves
    gripper.reset()
    for _ in range(30):
        assert not gripper.update([(0.05, 0.5)], 0.0).contact  # stalled without force
    gripper.reset()
    for _ in range(30):
        assert not gripper.update([(0.05, 10.0)], 0.08).contact  # pushed from inside while opening


def test_a_moment_of_stillness_is_not_yet_contact():
    gripper = GripperController(LIMITS)
    gripper.update([(0.05, 10.0)], 0.0)
    for _ in range(GripperConfig().stalled_ticks - 1):
        assert not gripper.update([(0.05, 10.0)], 0.0).contact
    assert gripper.update([(0.05, 10.0)], 0.0).contact


def test_fingers_that_come_closer_while_holding_have_slipped():
    gripper = GripperController(LIMITS)
    close_on(gripper, 0.04)
    assert not gripper.update([(0.039, 40.0)], 0.0).slip  # it gives a little
    state = gripper.update([(0.037, 40.0)], 0.0)
    assert state.contact
    assert state.slip
    assert gripper.update([(0.037, 40.0)], 0.0).slip  # and stays known


def test_losing_the_object_ends_contact_and_slip():
    gripper = GripperController(LIMITS)
    close_on(gripper, 0.04)
    gripper.update([(0.03, 40.0)], 0.0)
    state = gripper.update([(0.001, 40.0)], 0.0)
    assert not state.contact
    assert not state.slip


def test_told_to_open_it_lets_go():
    gripper = GripperController(LIMITS)
    assert close_on(gripper, 0.04).contact
    assert not gripper.update([(0.04, 20.0)], 0.08).contact


def test_pressed_fingers_that_tremble_hold_all_the_same():
    gripper = GripperController(LIMITS)
    for k in range(60):
        state = gripper.update([(0.0415 + 5e-5 * (-1) ** k, 20.0)], 0.0)
    assert state.contact


@given(st.lists(st.tuples(st.floats(0, 0.08), st.floats(0, 40)), min_size=1, max_size=60))
def test_a_batch_of_ticks_says_what_single_ticks_say(readings):
    settled = [(0.04, 20.0)] * 14  # so that there is contact to lose and to slip from
    whole, single = GripperController(LIMITS), GripperController(LIMITS)
    for reading in settled + readings:
        state = single.update([reading], 0.0)
    assert whole.update(settled + readings, 0.0) == state
