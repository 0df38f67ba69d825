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


def reason(error: Exception) -> str:
    """What Ray says."""
    for kind in type(error).__mro__:
        if kind.__name__ in SAID:
            return SAID[kind.__name__]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
