"""The simulated Panda: the arm that the grasp environments train with."""

from __future__ import annotations

from envs.arm import SimArm as SimPanda

__all__ = ["SimPanda"]
