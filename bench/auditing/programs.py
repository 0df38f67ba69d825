"""A torch.export archive, looked through and written anew before PyTorch loads it.

PyTorch's loader trusts its archive: it unpickles what an entry says is pickled, evaluates the text
of symbolic sizes and of guards, and makes code of the names in the graph. So only parts, operators,
names and expressions that are known to be harmless are passed on; guards, which only check inputs,
and notes of where a node came from are left out.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

PARTS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt"
)
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
MODEL, INPUTS = "models/model.json", "data/sample_inputs/model.pt"
TENSORS = re.compile(r"(weight|tensor)_\d+")

TARGETS = re.compile(
    r"torch\.ops\.aten\.(?!from_file|save|load)\w+\.\w+"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|torch\.sym_(int|float|max|min|not|sum)"
)
NAMES = re.compile(r"\w+(\.\w+)*", re.ASCII)
NAMED = frozenset(
    (
        *("name", "as_name", "fqn", "parameter_name", "buffer_name", "tensor_constant_name"),
        *("forward_arg_names", "tensor_values", "sym_int_values", "sym_bool_values"),
        *("sym_float_values", "range_constraints"),
    )
)
"""Entries whose text, or the texts of a list, or the keys of a mapping become names in code."""
EXPRESSIONS = re.compile(
    r"((Symbol|Integer|Add|Mul|Pow|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|Max|Min)\("
    r"|(positive|nonnegative|negative|nonzero|integer)=(True|False)"
    r"|'[su]\d+'|[su]\d+\b|\d+|[-+*/(), ])*"
)
TREES = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict"})
"""Of what inputs and outputs are packed in; None is a leaf."""


class Refused(Exception):
    """Why an archive is not loaded, in one clause."""


def harmless(archive: zipfile.ZipFile) -> bytes:
    """The same program as a new archive of what was looked through. Raises Refused."""
    names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    if len(tops) != 1 or len(set(names)) != len(names):
        raise Refused("its parts do not lie once each in one folder")
    top = tops.pop()
    parts = {name[len(top) + 1 :]: archive.read(name) for name in names}
    for name in parts:
        if not PARTS.fullmatch(name):
            raise Refused(f"its part {name} is none that a program of tensors has")
    for name in CONFIGS:
        _check_tensors(name, _json(name, parts.get(name, b'{"config": {}}')))
    if INPUTS in parts:
        try:
            torch.load(io.BytesIO(parts[INPUTS]), map_location="cpu", weights_only=True)
        except Exception as error:  # of whatever it holds
            raise Refused(f"its part {INPUTS} would have to be unpickled") from error
    program = _json(MODEL, parts.get(MODEL, b""))
    _check_program(program)
    program["guards_code"] = []
    parts[MODEL] = json.dumps(program).encode()
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as copy:
        for name, content in parts.items():
            copy.writestr(f"{top}/{name}", content)
    return found.getvalue()


def _json(name: str, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise Refused(f"its part {name} is no JSON") from error
    if not isinstance(found, dict):
        raise Refused(f"its part {name} is no JSON object")
    return found


def _check_tensors(name: str, config: dict[str, Any]) -> None:
    """Every entry is the plain bytes of a tensor."""
    entries = config.get("config")
    if not isinstance(entries, dict):
        raise Refused(f"its part {name} lists no tensors")
    for of, entry in entries.items():
        plain = isinstance(entry, dict) and entry.get("use_pickle") is False
        if not NAMES.fullmatch(of):
            raise Refused(f"{of[:40]!r} is no name of a tensor")
        if not plain or not TENSORS.fullmatch(str(entry.get("path_name"))):
            raise Refused(f"an entry of its part {name} would have to be unpickled")


def _check_program(program: dict[str, Any]) -> None:
    for one in _dicts(program):
        if "metadata" in one:
            one["metadata"] = {}
        for key in ("target", "as_operator"):
            if key in one and not TARGETS.fullmatch(str(one[key])):
                raise Refused(f"its operator {str(one[key])[:60]} is not known to be harmless")
        if one.get("custom_obj_values") or one.get("treespec_namedtuple_fields"):
            raise Refused("it holds objects that are no tensors")
        for key in one.keys() & NAMED:
            for name in _texts(one[key]):
                if not NAMES.fullmatch(name):
                    raise Refused(f"{name[:40]!r} is no name of a tensor")
        if not EXPRESSIONS.fullmatch(str(one.get("expr_str", ""))):
            raise Refused(f"its size {str(one['expr_str'])[:40]!r} is no plain expression")
        for key in ("in_spec", "out_spec"):
            _check_tree(one.get(key))


def _texts(value: Any) -> list[str]:
    """A text, the texts of a list, or the keys of a mapping."""
    if isinstance(value, str):
        return [value] if value else []
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | dict) else []


def _check_tree(spec: Any) -> None:
    if not spec:
        return
    try:
        found = json.loads(spec)
    except (TypeError, ValueError) as error:
        raise Refused("what its inputs are packed in is no JSON") from error
    for one in _dicts({"": found}):
        if "type" in one and one["type"] not in TREES:
            raise Refused(f"its inputs or outputs are packed in {str(one['type'])[:40]}")


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a JSON value, itself included."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            yield one
            pending.extend(one.values())
        elif isinstance(one, list):
            pending.extend(one)
