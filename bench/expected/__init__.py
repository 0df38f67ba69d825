"""What is expected by data set: claims, gates, remarks. Written down, not measured.

May import `bench.runtime` and `bench.spec`.
"""
