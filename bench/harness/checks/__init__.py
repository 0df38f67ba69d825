"""The conformance suite for plugins, one file for each kind; `bench.checks` is how it is called.

May import `bench.runtime` and `bench.judge`, and what those may import.
"""
