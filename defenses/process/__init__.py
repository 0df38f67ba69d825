"""The defender's own process: it holds its view, and of the benchmark nothing else.

``python -m defenses.process`` is started by `bench.runtime.child`. Nothing in here may import
`attacks`, `bench` or `fixtures.datasets`.
"""
