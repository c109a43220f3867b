"""Settings for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# On a shared or slow machine a first call may take seconds: time is the suite's business, not one
# example's. In CI the examples are the same each time, so that a red build can be repeated.
settings.register_profile(
    "steadyhand",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steadyhand")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Tests neither read nor fill the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("STEADYHAND_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()
