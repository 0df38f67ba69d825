"""The referees, one for each kind of plugin: only they see the test set.

May import `bench.runtime`, `bench.spec` and `bench.victims`.
"""
