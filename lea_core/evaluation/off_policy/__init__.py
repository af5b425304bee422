"""Off-policy estimates of a policy's value from logged events."""
