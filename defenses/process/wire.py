"""Messages between the benchmark and a defender's process: typed text, and tensors beside it.

A message is MessagePack of a declared type. The tensors beside it lie in one unnamed file, whose
descriptor travels with the message. Nothing that the defender sends is unpickled.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec
import torch
from torch import Tensor

from fixtures.shared import SharedFile

T = TypeVar("T")

HEAD = struct.Struct("<QB")
"""Length of what follows, number of descriptors."""

MOST_FILES = 8
LONGEST = 64 << 20
"""Bytes of a message without its tensors; a longer one is none of ours."""

LARGEST = 8 << 30
"""Bytes of the tensors of a message."""


class Told(msgspec.Struct):
    """``body``: the message. ``tensors``: dtype and shape of each, as they follow one another."""

    body: msgspec.Raw
    tensors: list[tuple[str, list[int]]]


class Gone(Exception):
    """The other side has closed the connection, or its process has ended."""


class Garbled(Exception):
    """What arrived is no message."""


class Channel:
    """One end of a connection. ``owns``: whether what arrives is copied, so that the sender cannot
    change it afterwards; else it is mapped, and changes made here stay here."""

    def __init__(self, connection: socket.socket, *, owns: bool) -> None:
        self._connection = connection
        self._owns = owns

    def send(
        self, message: msgspec.Struct, tensors: Sequence[Tensor] = (), files: Sequence[int] = ()
    ) -> None:
        """``files``: descriptors that the other side gets, too. Raises Gone."""
        shapes = [(_name(tensor.dtype), list(tensor.shape)) for tensor in tensors]
        told = msgspec.msgpack.encode(Told(msgspec.Raw(msgspec.msgpack.encode(message)), shapes))
        block = _written(tensors) if tensors else None
        given = ([block.fd] if block else []) + list(files)
        try:
            socket.send_fds(self._connection, [HEAD.pack(len(told), len(given))], given)
            self._connection.sendall(told)
        except OSError as error:
            raise Gone from error

    def receive(self, kind: type[T]) -> tuple[T, list[Tensor], list[int]]:
        """A message of that type, its tensors on the CPU, and descriptors that came with it.

        Raises Gone, and Garbled where it is something else.
        """
        files: list[int] = []
        try:
            head, files, _, _ = socket.recv_fds(self._connection, HEAD.size, MOST_FILES)
            head += self._read(HEAD.size - len(head)) if head else b""
            if not head:
                raise Gone
            length, count = HEAD.unpack(head)
            if length > LONGEST or count != len(files):
                raise Garbled
            told = msgspec.msgpack.decode(self._read(length), type=Told)
            message = msgspec.msgpack.decode(told.body, type=kind)
            tensors = self._tensors(told.tensors, files)
        except BaseException as error:
            for file in files:
                os.close(file)
            if isinstance(error, OSError):
                raise Gone from error
            if isinstance(error, Exception) and not isinstance(error, Gone):
                raise Garbled from error  # whatever is wrong with it, it is no message of ours
            raise
        return message, tensors, files

    def close(self) -> None:
        self._connection.close()

    def _read(self, count: int) -> bytes:
        parts = []
        while count:
            part = self._connection.recv(min(count, 1 << 20))
            if not part:
                raise Gone
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _tensors(self, shapes: Iterable[tuple[str, list[int]]], files: list[int]) -> list[Tensor]:
        """Those of a message; takes the file that they lie in off ``files``."""
        wanted = [(getattr(torch, name), torch.Size(shape)) for name, shape in shapes]
        if not wanted:
            return []
        if not files:
            raise Garbled
        file = files.pop(0)
        try:
            size = sum(_padded(dtype, shape) for dtype, shape in wanted)
            if size > LARGEST or os.fstat(file).st_size < size:
                raise Garbled
            memory = self._memory(file, size)
        finally:
            os.close(file)
        found, at = [], 0
        for dtype, shape in wanted:
            count = shape.numel()
            found.append(
                torch.frombuffer(memory, dtype=dtype, count=count, offset=at).view(shape)
                if count
                else torch.empty(shape, dtype=dtype)
            )
            at += _padded(dtype, shape)
        return found

    def _memory(self, file: int, size: int) -> bytearray | mmap.mmap:
        if size == 0:
            return bytearray()
        if not self._owns:
            return mmap.mmap(file, size, access=mmap.ACCESS_COPY)
        memory = bytearray(size)
        view, at = memoryview(memory), 0
        while at < size:
            got = os.preadv(file, [view[at:]], at)
            if got == 0:
                raise Garbled
            at += got
        return memory


def _written(tensors: Sequence[Tensor]) -> SharedFile:
    block = SharedFile()
    for tensor in tensors:
        flat = tensor.detach().contiguous().cpu().reshape(-1)
        flat = flat.as_strided(flat.shape, (1,))  # of one number any stride counts as contiguous
        data = flat.view(torch.uint8).numpy().data
        block.append(data)
        block.append(memoryview(bytes(_padded(tensor.dtype, tensor.shape) - data.nbytes)))
    return block


def _padded(dtype: torch.dtype, shape: torch.Size) -> int:
    """Bytes of a tensor, up to the next multiple of 64, where another one may begin."""
    return -(-shape.numel() * dtype.itemsize // 64) * 64


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
