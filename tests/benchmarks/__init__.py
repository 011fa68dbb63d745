"""Speed, memory, cold start and accuracy beside every rival: ``python -m tests.benchmarks``."""
