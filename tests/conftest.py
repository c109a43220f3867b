"""Settings for all tests."""

from __future__ import annotations

import os

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
