"""Controls that replace signals of the LE, and tuning."""
