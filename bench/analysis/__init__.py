"""Records to statistics: gates, means over seeds, the baseline, the ranking.

May import everything of `bench` that stands before it: `runtime` to `store`, and `expected`.
"""
