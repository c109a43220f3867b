"""What is new to a bundle's policy is in the bundle, and for that policy alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from policies.bundle.format import Bundle, add_file, shipped
from policies.bundle.manifest import NOVELTY, BundleError
from policies.bundle.verify import check_bundle
from policies.evaluation.novelty import calibrate, least_picks, observe_picks
from robot import observation
from robot.errors import SafetyError


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.load(shutil.copytree(shipped(), tmp_path / "mine"))


def picks(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(20, observation.SIZE)).astype(np.float32) for _ in range(n)]


def test_the_shipped_policy_is_calibrated() -> None:
    novelty = Bundle.load(shipped()).novelty()
    assert novelty is not None
    assert novelty.file.picks_n >= 200 and novelty.file.alpha <= 0.01


def test_a_calibration_goes_into_the_bundle_and_counts_for_its_policy(bundle: Bundle) -> None:
    made = calibrate(picks(80), 0.05, bundle)
    after = Bundle.load(bundle.root)
    novelty = after.novelty()
    assert novelty is not None and novelty.file == made
    assert set(after.files) == {*bundle.files, NOVELTY}
    assert after.manifest.roles == bundle.manifest.roles
    check = next(c for c in check_bundle(after) if c.name == "novelty")
    assert check.ok and "60 picks" in check.detail
    policy = after.manifest.roles["policy"]
    other = add_file(after, policy, after.model("policy_fp32"))
    with pytest.raises(SafetyError, match="another policy"):
        other.novelty()
    assert not next(c for c in check_bundle(other) if c.name == "novelty").ok


@pytest.mark.parametrize("alpha", [0.5, 0.05, 0.03, 0.01, 0.005, 1 / 3])
def test_the_fewest_picks_that_make_a_calibration(bundle: Bundle, alpha: float) -> None:
    least = least_picks(alpha)
    calibrate(picks(least), alpha, bundle)
    with pytest.raises(SafetyError, match="held-out picks"):
        calibrate(picks(least - 1), alpha, bundle)


def test_a_file_that_does_not_fit_leaves_the_bundle_as_it_was(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="at most 12 MB"):
        add_file(bundle, NOVELTY, bytes(13_000_000))
    assert Bundle.load(bundle.root).files == bundle.files
    assert [p.name for p in bundle.root.parent.iterdir()] == ["mine"]


def test_picks_are_seen_both_ways(bundle: Bundle) -> None:
    told: list[int] = []
    seen = observe_picks(bundle.root, 2, 3, on_pick=lambda: told.append(1))
    assert len(seen) == len(told) == 2
    for pick in seen:
        assert pick.shape[0] > 5 and pick.shape[1] == observation.SIZE
        assert np.isfinite(pick).all()
