"""Where a run happens: files, folders, costs, time limits, the machine, and plugins' contracts.

Knows nothing of cells. May import `fixtures`, `attacks` and `defenses`, nothing else of `bench`.
"""
