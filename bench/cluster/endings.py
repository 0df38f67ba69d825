"""How a task ended that gave nothing, in few words."""

from __future__ import annotations

SAID = {
    "OutOfMemoryError": "out of memory",
    "WorkerCrashedError": "its worker ended",
    "NodeDiedError": "the node is gone",
    "TaskUnschedulableError": "the node is gone",
    "ObjectLostError": "what it needs was lost with a node",
    "TaskCancelledError": "it was ended",
    "ObjectStoreFullError": "the object store is full",
    "OutOfDiskError": "the node's disk is full",
}
"""By the name of Ray's error."""

OWN = ("OutOfMemoryError", "WorkerCrashedError", "ObjectStoreFullError", "OutOfDiskError")
"""What may come of the task itself, and would come again."""


def _names(error: Exception) -> list[str]:
    return [kind.__name__ for kind in type(error).__mro__]


def reason(error: Exception) -> str:
    """What Ray says."""
    for name in _names(error):
        if name in SAID:
            return SAID[name]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"


def is_the_tasks_own(error: Exception) -> bool:
    """Whether the task may be to blame, rather than a node that went."""
    return any(name in OWN for name in _names(error)) or not set(_names(error)) & SAID.keys()


def is_too_large(error: Exception) -> bool:
    return "OutOfMemoryError" in _names(error)
