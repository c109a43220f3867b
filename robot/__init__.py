"""The arm: its nouns, limits, planning, execution and safety; no simulator, no torch."""
