"""Ranking, reward and proposal metrics."""
