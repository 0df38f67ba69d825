"""What is asked: cells, their metrics, suites and defaults, and the identity of a run.

May import `bench.runtime`, and what that may import.
"""
