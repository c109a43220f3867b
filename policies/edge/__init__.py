"""The runtime that runs a bundle without torch or a simulator."""
