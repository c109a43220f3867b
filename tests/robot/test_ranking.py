"""Candidates in order: the planner's own, or the scorer's; and why the rest was refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from robot.interface import GraspScorer
from robot.planning.grasps import GraspPlanner
from robot.planning.ranking import (
    FailedGrips,
    GraspRanking,
    Ranked,
    RankingConfig,
    Refusal,
    Refusals,
)
from robot.planning.reach import turned
from robot.types import GraspCandidate, HeightMap, Pose
from tests.robot.test_grasps import GRIPPER, look_at

LOOK = look_at((0.5, 0.0, 0.3, 0.12, 0.04, 0.05))


class Eastern:
    """A scorer that likes grips far out along x."""

    def score(self, height_map: HeightMap, candidates: Sequence[GraspCandidate]) -> np.ndarray:
        x = np.array([c.X_world_grasp.position_m[0] for c in candidates], np.float32)
        return 1 / (1 + np.exp(-100 * (x - 0.5)))


def x_of(item: Ranked) -> float:
    return float(item.candidate.X_world_grasp.position_m[0])


def test_without_a_scorer_the_planners_order_stands():
    ranked = GraspRanking(GRIPPER).ranked(LOOK, np.random.default_rng(0))
    planned = GraspPlanner(GRIPPER).propose(LOOK, np.random.default_rng(0))
    assert len(ranked) == len(planned) > 5
    for item, candidate in zip(ranked, planned, strict=True):
        assert np.array_equal(item.candidate.X_world_grasp.matrix, candidate.X_world_grasp.matrix)
        assert np.isnan(item.probability)


def test_with_a_scorer_its_order_stands():
    scorer = Eastern()
    assert isinstance(scorer, GraspScorer)
    ranking = GraspRanking(GRIPPER, scorer, config=RankingConfig(analytic_weight=0.0))
    ranked = ranking.ranked(LOOK, np.random.default_rng(0))
    assert len(ranked) == len(GraspPlanner(GRIPPER).propose(LOOK, np.random.default_rng(0)))
    assert [x_of(r) for r in ranked] == sorted((x_of(r) for r in ranked), reverse=True)
    assert all(0 < r.probability < 1 for r in ranked)


def test_the_planners_score_can_outweigh_the_scorers():
    config = RankingConfig(analytic_weight=100.0)
    ranking = GraspRanking(GRIPPER, Eastern(), config=config)
    ranked = ranking.ranked(LOOK, np.random.default_rng(0))
    score = [r.candidate.score for r in ranked]
    assert np.corrcoef(np.arange(len(score)), score)[0, 1] < -0.9


@pytest.mark.parametrize("scorer", [None, Eastern()])
def test_grips_beyond_the_usual_limits_are_the_last_resort(scorer):
    fat = look_at((0.5, 0.0, 0.0, 0.12, 0.072, 0.05))
    assert GraspPlanner(GRIPPER).propose(fat, np.random.default_rng(0)) == []
    ranked = GraspRanking(GRIPPER, scorer).ranked(fat, np.random.default_rng(0))
    assert len(ranked) > 3 and max(item.candidate.width_m for item in ranked) > 0.07
    usual = GraspRanking(GRIPPER, scorer).ranked(LOOK, np.random.default_rng(0))
    assert max(item.candidate.width_m for item in usual) < 0.07


def test_the_unusual_is_offered_beside_the_usual_where_it_is_asked_for():
    # The planner's limits forbid a grip of the wide box, not one of the narrow one.
    both = look_at((0.46, 0.0, 0.0, 0.04, 0.03, 0.05), (0.56, 0.0, 0.0, 0.09, 0.072, 0.05))
    ranking = GraspRanking(GRIPPER)
    usual = ranking.ranked(both, np.random.default_rng(0))
    unusual = ranking.ranked(both, np.random.default_rng(0), unusual=True)
    assert usual and {item.candidate.object_id for item in usual} == {0}
    assert {item.candidate.object_id for item in unusual} == {0, 1}


def test_grips_like_one_that_failed_are_known():
    first, *_ = (r.candidate for r in GraspRanking(GRIPPER).ranked(LOOK, np.random.default_rng(0)))
    failed = FailedGrips()
    assert not failed(first)
    failed.add(first)
    assert failed(first) and failed(turned(first))
    at = first.X_world_grasp
    beside = Pose("world", "grasp", at.position_m + np.array([0.02, 0.0, 0.0]), at.quat_xyzw)
    assert not failed(replace(first, X_world_grasp=beside))


def test_what_failed_before_comes_last():
    def west(candidate: GraspCandidate) -> bool:
        return bool(candidate.X_world_grasp.position_m[0] > 0.5)

    ranked = GraspRanking(GRIPPER, Eastern()).ranked(LOOK, np.random.default_rng(0), west)
    failed = [r.failed_before for r in ranked]
    assert any(failed) and not all(failed) and failed == sorted(failed)


def test_an_empty_table_gives_nothing_and_asks_no_scorer():
    ranking = GraspRanking(GRIPPER, Eastern())
    assert ranking.ranked(look_at(), np.random.default_rng(0)) == []


@pytest.mark.parametrize(
    ("probability", "failed", "reason"),
    [
        (0.9, False, Refusal.SECOND_BEST),
        (0.2, False, Refusal.UNLIKELY),
        (0.2, True, Refusal.FAILED_BEFORE),
        (float("nan"), False, Refusal.SECOND_BEST),
    ],
)
def test_each_of_the_rest_is_counted_once_by_its_reason(probability, failed, reason):
    candidate = GraspPlanner(GRIPPER).propose(LOOK, np.random.default_rng(0))[0]
    refused = Refusals()
    refused.rest([Ranked(candidate, probability, failed)] * 3, 0.6)
    refused.add(Refusal.NO_PATH)
    assert refused.as_dict() == {reason.value: 3, "no free path": 1}
