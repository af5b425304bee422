"""One verb per file, one DVC stage each: load parameters, read artifacts, call one function, publish."""

import os

# Threads that wait for each other must not spin: on a machine where anything else runs that costs several times the
# whole training (torch's OpenMP reads this when it is first imported, so it is set before any stage does).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
