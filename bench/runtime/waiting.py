"""How long a thread spins while it waits for others, before it sleeps and leaves its core.

Read by OpenMP once, when PyTorch is loaded, so it is set before.
"""

from __future__ import annotations

from collections.abc import MutableMapping

BRIEFLY = {"GOMP_SPINCOUNT": "10000"}
"""For GNU's OpenMP, where each thread has a core: some 20 microseconds. By default it spins for
milliseconds: with one other busy program on two cores a training took 5 to 37 times as long, and so
6. Without any other it takes 5 % longer, and 70 % where threads sleep at once."""

NOT_AT_ALL = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""For GNU's and LLVM's OpenMP, where threads share a core: a thread that spins would take it from
the one that it waits for."""


def wait(how: MutableMapping[str, str], surroundings: MutableMapping[str, str]) -> None:
    """Have threads wait so, unless somebody has said in the environment how they should.

    ``how``: one of the above, in whose place the other may stand already, of whoever started this.
    """
    others = [name for name in (*BRIEFLY, *NOT_AT_ALL) if name in surroundings]
    if all(surroundings[name] == (BRIEFLY | NOT_AT_ALL)[name] for name in others):
        for name in others:
            del surroundings[name]
        surroundings.update(how)
