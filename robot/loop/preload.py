"""Imported once by the process that all others are forked from: what each of them would repeat."""

from __future__ import annotations

from robot.loop.typestore import typestore

typestore()
