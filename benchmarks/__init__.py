"""What the project claims, measured: each script writes one file of results/, with the command, commit and machine."""
