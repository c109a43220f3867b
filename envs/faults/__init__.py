"""Faults that are put into simulated picks, and an observer that tells what came of them."""
