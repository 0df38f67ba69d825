"""Many small classifiers that each see a part of a training set, and what their votes prove.

Shared by the certified defenses; registers nothing itself.
"""
