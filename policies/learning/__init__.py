"""Behaviour cloning and reinforcement learning."""
