"""Protocols, statistics and subjects of grasp evaluation."""
