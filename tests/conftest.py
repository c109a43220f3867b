"""Settings for all tests."""

from __future__ import annotations

import os
import tempfile

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

# Tests neither read nor fill the user's cache, and track nothing unless they ask for it. Set here,
# before any test copies the environment for a process of its own.
_cache = tempfile.TemporaryDirectory(prefix="steadyhand-tests-")
os.environ["STEADYHAND_CACHE"] = _cache.name
os.environ["MLFLOW_TRACKING_URI"] = "none"
