"""pytest's side: options, which cells they select, progress, summary, workers, conformance checks.

May import everything of `bench` but `bench.speed` and `bench.commands`.
"""
