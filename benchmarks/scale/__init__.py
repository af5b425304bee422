"""Time and memory as logs and catalogues grow."""
