"""The bundle: models, limits, card and manifest in one verified folder."""
