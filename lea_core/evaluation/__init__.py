"""What the variants are worth, and whether a difference is more than chance."""
