"""Interactions and item texts: reading, filtering, splitting, sequences."""
