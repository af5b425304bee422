"""What the LE itself is worth: its quality, its settings, its seeds."""
