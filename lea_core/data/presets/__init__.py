"""Data sets whose files and columns are known, a file for each: docs/extending.md."""
