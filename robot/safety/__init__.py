"""Monitors and the supervisor that has the last word on every command."""
