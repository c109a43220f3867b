"""Data made by simulation: annotated scenes and grasp trials, as files."""
