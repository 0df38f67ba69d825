"""Statistics to pages: tables, figures, ``report.md``, the leaderboard, made parts of other pages.

May import everything of `bench` but `bench.harness`, `bench.speed` and `bench.commands`.
"""
