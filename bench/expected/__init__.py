"""What is expected by data set: claims, gates, tolerances, remarks.

May import `bench.runtime` and `bench.spec`.
"""
