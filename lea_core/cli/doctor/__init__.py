"""`lea doctor`: the command, what a finding is, and the checks by what they look at."""
