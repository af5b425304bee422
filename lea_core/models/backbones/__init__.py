"""The backbones, a file for each: docs/extending.md."""
