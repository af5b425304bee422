"""The methods, a file for each: docs/extending.md."""
