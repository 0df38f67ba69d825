"""What is kept: records of finished cells, and the cache that holds them and the victims.

May import `bench.runtime`, `bench.spec`, `bench.victims` and `bench.judge`.
"""
