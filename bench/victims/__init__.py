"""Victims: the backdoored models, trained once, stored and provided to whoever attacks or defends.

May import `bench.runtime` and `bench.spec`.
"""

from bench.victims.provide import Victim, victim

__all__ = ["Victim", "victim"]
