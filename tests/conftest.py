"""What holds for all tests, set before any of them imports torch."""

import os

# Threads that wait for others give their core away: OpenMP reads this when torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
