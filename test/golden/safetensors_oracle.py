"""Writes safetensors-expected.json: files that Python's safetensors wrote, the numbers in them, and its verdict on files that are wrong.

Run in an environment with torch, numpy and safetensors: python test/golden/safetensors_oracle.py
"""
import base64
import importlib.metadata
import json
import pathlib
import struct

import numpy as np
import safetensors
import safetensors.numpy
import safetensors.torch
import torch

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}
torch.manual_seed(5)


def every_dtype():
    return {
        "f64": torch.tensor([1 / 3, -1e300, 5e-324], dtype=torch.float64),
        "f32": torch.tensor([[1 / 3, -1e38], [1e-45, float("inf")]], dtype=torch.float32),
        "f16": torch.tensor([1 / 3, -65504.0, 6e-8, float("-inf"), -0.0], dtype=torch.float16),
        "bf16": torch.tensor([1 / 3, -3e38, 1e-40, float("inf")], dtype=torch.bfloat16),
        "i64": torch.tensor([2**53 + 1, -(2**63), 2**63 - 1, 7], dtype=torch.int64),
        "i32": torch.tensor([-(2**31), 2**24 + 1], dtype=torch.int32),
        "i16": torch.tensor([-(2**15), 2**15 - 1], dtype=torch.int16),
        "i8": torch.tensor([-128, 127], dtype=torch.int8),
        "u8": torch.tensor([0, 255], dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(42),
        "empty": torch.zeros(0, 5),
    }


def network():
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2))
    return {f"model.{name}": tensor for name, tensor in layers.state_dict().items()}


def odd_names():
    return {name: torch.full((2,), index, dtype=torch.int16) for index, name in enumerate(["1", "__proto__", "constructor", "Gewebe ткань 組織", 'a "quote"\\', "a.b.c", " "])}


def entry(tensor):
    flat = tensor.contiguous().reshape(-1)
    floating = tensor.dtype.is_floating_point
    return {
        "dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape),
        "integers": None if floating else [str(int(value)) for value in flat.tolist()],
        "float32": [repr(value) for value in flat.to(torch.float32).tolist()],
    }


def written(name, tensors, metadata=None, by="torch"):
    if by == "numpy":
        data = safetensors.numpy.save({key: tensor.numpy() for key, tensor in tensors.items()}, metadata)
    else:
        data = safetensors.torch.save(tensors, metadata)
    return {"name": name, "file": base64.b64encode(data).decode(), "metadata": metadata or {}, "tensors": {key: entry(tensor) for key, tensor in tensors.items()}}


def file_of(header, data_bytes=0, header_bytes=None):
    encoded = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(encoded) if header_bytes is None else header_bytes) + encoded + bytes(data_bytes)


def tensor(name="t", dtype="U8", shape=(2,), offsets=(0, 2), more=""):
    return f'"{name}":{{"dtype":"{dtype}","shape":{list(shape)},"data_offsets":{list(offsets)}{more}}}'


def objects(*parts):
    return "{" + ",".join(parts) + "}"


good = safetensors.torch.save({"a": torch.arange(4, dtype=torch.float32), "b": torch.arange(3)}, {"note": "x"})
JUDGED = {
    "a sound file": good,
    "no tensors": file_of("{}"),
    "spaces after the header": file_of(objects(tensor()) + "     ", 2),
    "tensors listed in another order than their bytes": file_of(objects(tensor("a", offsets=(2, 4)), tensor("b")), 4),
    "an empty tensor": file_of(objects(tensor(shape=(0,), offsets=(0, 0)))),
    "an empty tensor between others": file_of(objects(tensor("a"), tensor("b", shape=(0, 3), offsets=(2, 2)), tensor("c", offsets=(2, 4))), 4),
    "a scalar": file_of(objects(tensor(shape=(), offsets=(0, 1))), 1),
    "elements that are not aligned": file_of(objects(tensor("a", shape=(1,), offsets=(0, 1)), tensor("b", dtype="F32", shape=(1,), offsets=(1, 5))), 5),
    "metadata alone": file_of('{"__metadata__":{"a":"b"}}'),
    "no bytes": b"",
    "seven bytes": bytes(7),
    "a header past the end": file_of("{}", 0, 3),
    "a header over the cap": file_of("{}", 0, 100_000_001),
    "a header length of 2^64 - 1": file_of("{}", 0, 2**64 - 1),
    "an empty header": file_of(""),
    "a header that is a list": file_of("[]"),
    "a header that is not UTF-8": file_of(b'{"\xff":{}}'),
    "a header that is broken JSON": file_of('{"t":'),
    "metadata that is a list": file_of('{"__metadata__":[]}'),
    "metadata with a number": file_of('{"__metadata__":{"a":1}}'),
    "a tensor without shape": file_of('{"t":{"dtype":"U8","data_offsets":[0,2]}}', 2),
    "three offsets": file_of('{"t":{"dtype":"U8","shape":[2],"data_offsets":[0,1,2]}}', 2),
    "a dtype that does not exist": file_of(objects(tensor(dtype="F3")), 2),
    "a negative size": file_of(objects(tensor(shape=(-2,))), 2),
    "a size that is a fraction": file_of(objects(tensor(shape=(2.5,))), 2),
    "an offset beyond 64 bits": file_of(objects(tensor(offsets=(0, 2**64))), 2),
    "a shape whose product overflows": file_of(objects(tensor(shape=(2**62, 2**62), offsets=(0, 0)))),
    "offsets in reverse": file_of(objects(tensor(offsets=(2, 0))), 2),
    "a hole before the first tensor": file_of(objects(tensor(offsets=(1, 3))), 3),
    "a hole between tensors": file_of(objects(tensor("a"), tensor("b", offsets=(3, 5))), 5),
    "an overlap": file_of(objects(tensor("a"), tensor("b", offsets=(1, 3))), 3),
    "two tensors on the same bytes": file_of(objects(tensor("a"), tensor("b")), 2),
    "fewer bytes than shape and dtype need": file_of(objects(tensor(dtype="F32")), 2),
    "more bytes than shape and dtype need": file_of(objects(tensor(shape=(1,))), 2),
    "bytes after the last tensor": good + b"\0",
    "an end that is cut off": good[:-1],
    "bytes without a tensor": file_of("{}", 1),
    "one name twice": file_of(objects(tensor(), tensor()), 2),
    "an unknown field": file_of(objects(tensor(more=',"code":"x"')), 2),
    "8-bit floats": file_of(objects(tensor(dtype="F8_E4M3")), 2),
    "unsigned integers of 16 bits": file_of(objects(tensor(dtype="U16", shape=(1,))), 2),
}


def is_accepted(data):
    try:
        safetensors.deserialize(data)
    except safetensors.SafetensorError:
        return False
    return True


facts = {
    "oracle": f"safetensors {importlib.metadata.version('safetensors')}, torch {torch.__version__}, numpy {np.__version__}",
    "files": [
        written("every dtype", every_dtype(), {"format": "pt", "note": "Gewebe, ткань"}),
        written("a network", network(), {"format": "pt"}),
        written("odd names", odd_names()),
        written("by numpy", {key: value for key, value in every_dtype().items() if value.dtype != torch.bfloat16}, {"format": "np"}, by="numpy"),
        written("nothing", {}, {"only": "metadata"}),
    ],
    "judged": [{"what": what, "file": base64.b64encode(data).decode(), "isAccepted": is_accepted(data)} for what, data in JUDGED.items()],
}
target = pathlib.Path(__file__).with_name("safetensors-expected.json")
target.write_text(json.dumps(facts, indent=1) + "\n")
print(target.stat().st_size, "bytes;", "accepted:", [each["what"] for each in facts["judged"] if each["isAccepted"]])
