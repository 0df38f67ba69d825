"""What travels between the benchmark and a defender's process arrives as it was sent."""

from __future__ import annotations

import socket

import pytest
import torch

from defenses.process.messages import Asked
from defenses.process.wire import Channel

SENT = {
    "a number without an axis": torch.tensor(7),
    "one number, whatever its stride": torch.tensor(0.5).expand(1).clone(),
    "bfloat16": torch.arange(5, dtype=torch.bfloat16),
    "turned round": torch.arange(6).view(2, 3).T,
    "nothing": torch.empty(0, 3),
    "flags": torch.tensor([True, False]),
}


@pytest.mark.parametrize("owns", [False, True])
def test_tensors_of_any_sort_arrive_beside_their_message(owns):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Channel(ours, owns=False).send(Asked("detect"), [*SENT.values()])
        message, arrived, files = Channel(theirs, owns=owns).receive(Asked)
    assert (message, files) == (Asked("detect"), [])
    for sent, found in zip(SENT.values(), arrived, strict=True):
        assert found.dtype == sent.dtype
        assert torch.equal(found, sent)
