"""Configurations read once into frozen dataclasses."""
