"""Training and export of the detector."""
