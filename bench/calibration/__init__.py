"""Whether the statistics keep their promises: counted by simulation and on committed records.

May import `bench.analysis` and what lies below. Each module is a command: ``python -m
bench.calibration.coverage``, ``python -m bench.calibration.alarms results/digits``.
"""
