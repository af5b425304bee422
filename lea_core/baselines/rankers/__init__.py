"""The baselines that need the interactions alone, a file for each: docs/extending.md."""
