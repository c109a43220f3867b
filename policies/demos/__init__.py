"""Demonstrations: recorded, stored and read back."""
