"""The fault campaign: it is judged right, and no monitor is there for nothing."""

from __future__ import annotations

import numpy as np
import pytest

from envs.expert import ExpertPolicy
from envs.faults.injector import Injector
from envs.faults.observer import Observer
from envs.physics import physics
from envs.station import Station
from policies.evaluation import faults as campaigns
from policies.evaluation.faults import ALL, Campaign, Picks, run_campaign, summary
from robot.errors import ConfigError
from robot.loop.log import RunLog
from robot.loop.recorder import Recorder
from robot.safety.suite import NAMES

KEYS = {
    "runs",
    "kinds",
    "violations",
    "undetected",
    "wrong_reactions",
    "reaction_periods",
    "false_halts",
    "slowed_share",
    "nominal_runs",
}
MINE = {kind.monitor: kind for kind in ALL if kind.monitor}


def test_every_monitor_has_a_fault_of_its_own():
    assert set(MINE) == set(NAMES)


def test_there_are_enough_kinds_with_names_of_their_own():
    names = [kind.name for kind in ALL]
    assert len(set(names)) == len(names) >= 30
    assert all(kind.phases and kind.expect for kind in ALL)


def test_quick_has_every_kind_once_and_full_a_thousand_runs():
    quick = [kind for kind, _, _ in Campaign("quick").plan() if kind]
    assert len(quick) == len(set(quick)) >= len(ALL) - 1  # new input only where calibrated
    assert sum(not kind for kind, _, _ in Campaign("quick").plan()) >= 20
    full = Campaign("full").plan()
    assert sum(bool(kind) for kind, _, _ in full) >= 1000
    assert len(set(full)) == len(full)


def test_nominal_has_no_faults_and_the_first_picks_of_the_full_campaign():
    nominal = Campaign("nominal", 4).plan()
    assert {(kind, phase) for kind, phase, _ in nominal} == {("", "")} and len(nominal) >= 500
    full = [item for item in Campaign("full", 4).plan() if not item[0]]
    assert nominal == full[: len(nominal)]


def test_picks_without_a_fault_are_made_once_more_with_no_monitor(tmp_path, monkeypatch):
    monkeypatch.setitem(campaigns._NOMINAL, "nominal", 3)
    campaign, file, seen = Campaign("nominal", 4), tmp_path / "runs.jsonl", []
    result = run_campaign(campaign, out=file, on_run=seen.append)
    assert result["nominal_runs"] == 3 and result["kinds"] == 0 and len(seen) == 6
    beside = result["beside_no_monitor"]
    assert beside["episodes"] == 3
    gained = beside["only_first"] - beside["only_second"]
    assert result["nominal_successes"] - beside["successes"] == gained
    low, high = beside["ci95"]
    assert low <= beside["difference"] <= high and high - low > 0.2  # three say little
    # Both halves are kept, and told apart: nothing is run again.
    assert len(file.read_text().splitlines()) == 6
    monkeypatch.setattr(campaigns, "Picks", None)
    assert run_campaign(campaign, out=file) == result


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="no faults"):
        Campaign("nominal", kinds=("command_nan",))
    with pytest.raises(ConfigError, match="monitor"):
        Campaign(without=("nose",))
    with pytest.raises(ConfigError, match="kind of fault"):
        Campaign(kinds=("earthquake",))


def test_a_reading_without_a_number_halts_and_stops_an_arm_that_is_recorded(tmp_path):
    picks = Picks(Campaign(kinds=("reading_nan",)))
    with Recorder(tmp_path / "a.mcap") as recorder:
        run = picks.run("reading_nan", "carry", 1, RunLog(recorder))
    assert run.happened and run.halted and run.outcome == "halted"
    assert not run.violations and not run.wrong  # among them: an arm not at rest afterwards
    assert recorder.failed is None


def test_some_faults_are_answered_as_stated_and_a_run_is_kept(tmp_path):
    campaign = Campaign(kinds=("command_nan", "e_stop_api", "reading_dropped_thrice"))
    file = tmp_path / "runs.jsonl"
    result = run_campaign(campaign, out=file)
    assert set(result) >= KEYS
    assert result["runs"] == result["kinds"] == 3
    assert result["violations"] == result["undetected"] == result["wrong_reactions"] == 0
    assert result["by_kind"]["e_stop_api"]["halted"] == 1
    # Nothing is run again.
    seen = []
    again = run_campaign(campaign, out=file, on_run=seen.append)
    assert len(seen) == 3
    assert again == result
    assert len(file.read_text().splitlines()) == 3


@pytest.mark.parametrize("name", ["disk_full", "obstacle", "bundle_tampered"])
def test_a_fault_that_never_began_leaves_nothing_behind(name):
    """A pick may end before the phase in which it is due."""
    station = Station(ExpertPolicy(0.22), physics("nominal"), "truth")
    try:
        kind = next(kind for kind in ALL if kind.name == name)
        observer = Observer(station.world, station.arm, station.limits)
        judged, robot = station.player.supervisor.filter, station.player.robot
        rng = np.random.default_rng(0)
        with Injector(station, observer, kind, "carry", 0, rng) as injector:
            assert station.player.robot is not robot
        assert injector.onset is None
        assert station.player.robot is robot
        assert station.player.supervisor.filter == judged
        assert station.arm.on_motors is None
    finally:
        station.close()


def test_without_its_monitor_a_fault_does_harm():
    """The campaign can fail: that the gripper's NaN reaches the motors is seen."""
    kinds = ("gripper_command_nan",)
    assert run_campaign(Campaign(kinds=kinds))["violations"] == 0
    result = run_campaign(Campaign(kinds=kinds, without=("finite",)))
    assert result["violations"] == 1
    assert "number" in result["by_kind"]["gripper_command_nan"]["violations"]


@pytest.mark.slow
@pytest.mark.parametrize("monitor", NAMES)
def test_each_monitor_is_missed_where_it_is_left_out(monitor):
    kind = MINE[monitor]
    for seed in range(3):
        plan = Campaign(seed=seed, kinds=(kind.name,))
        if not plan.plan():
            pytest.skip("steadyhand faults --calibrate was not run for this policy")
        whole = run_campaign(plan)
        assert whole["violations"] == whole["undetected"] == whole["wrong_reactions"] == 0
        left_out = run_campaign(Campaign(seed=seed, kinds=(kind.name,), without=(monitor,)))
        if left_out["violations"]:
            return
    pytest.fail(f"without {monitor}, {kind.name} does no harm")


def test_an_empty_sum_is_one():
    assert summary([])["reaction_periods"] == {"p50": None, "max": None}
