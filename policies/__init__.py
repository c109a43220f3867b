"""Demonstrations, learning, compression, evaluation and deployment of policies."""
