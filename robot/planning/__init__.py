"""Grasp candidates, collision checks and timed joint paths."""
