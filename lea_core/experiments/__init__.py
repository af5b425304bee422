"""Controls in the place of the LE's signals, and tuning."""
