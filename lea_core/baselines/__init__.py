"""Recommenders that need no training, and the LE itself as one."""
