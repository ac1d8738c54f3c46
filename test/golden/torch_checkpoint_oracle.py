"""Writes torch-checkpoint-expected.json and the small checkpoints in torch-checkpoint/: what real PyTorch saves, and the numbers in it.

Run in an environment with torch and numpy: python test/golden/torch_checkpoint_oracle.py
"""
import collections
import io
import json
import os
import pathlib
import pickle
import sys
import types

import torch

here = pathlib.Path(__file__).parent
folder = here / "torch-checkpoint"
folder.mkdir(exist_ok=True)
torch.manual_seed(3)
NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}


class Callback:
    """Pickled under a module that nobody has; loading it in Python would run a command."""

    def __reduce__(self):
        return os.system, ("echo this must never be printed",)


def every_dtype():
    state = collections.OrderedDict()
    state["f64"] = torch.tensor([1 / 3, -1e300, 5e-324], dtype=torch.float64)
    state["f32"] = torch.tensor([1 / 3, -1e38, 1e-45, float("inf")], dtype=torch.float32)
    state["f16"] = torch.tensor([1 / 3, -65504.0, 6e-8, 6.1e-5, float("-inf"), -0.0], dtype=torch.float16)
    state["bf16"] = torch.tensor([1 / 3, -3e38, 1e-40, float("inf")], dtype=torch.bfloat16)
    state["i64"] = torch.tensor([2**53 + 1, -(2**63), 2**63 - 1, 7], dtype=torch.int64)
    state["i32"] = torch.tensor([-(2**31), 2**24 + 1], dtype=torch.int32)
    state["i16"] = torch.tensor([-(2**15), 2**15 - 1], dtype=torch.int16)
    state["i8"] = torch.tensor([-128, 127], dtype=torch.int8)
    state["u8"] = torch.tensor([0, 255], dtype=torch.uint8)
    state["bool"] = torch.tensor([True, False, True])
    state["scalar"] = torch.tensor(42)
    state["empty"] = torch.zeros(0, 5)
    return state


def views():
    base = torch.arange(24, dtype=torch.float32)
    grid = base.reshape(2, 3, 4)
    halves = torch.arange(12, dtype=torch.float16).reshape(3, 4)
    return {
        "whole": base,
        "grid": grid,
        "transposed": grid.permute(2, 0, 1),
        "row": grid[1, 2],
        "every_second": base[3::2],
        "expanded": torch.tensor([5.0]).expand(2, 3),
        "channels_last": torch.randn(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "halves_transposed": halves.t(),
        "long_column": torch.arange(6).reshape(2, 3)[:, 1],
        "bytes_transposed": torch.arange(6, dtype=torch.uint8).reshape(2, 3).t(),
        "tied": base,
    }


def small_network():
    return torch.nn.Sequential(collections.OrderedDict(conv=torch.nn.Conv2d(3, 2, 3), norm=torch.nn.BatchNorm2d(2)))


def parameters():
    """Parameters as such (a state dict holds plain tensors), one of them with an attribute, and one frozen."""
    noted = torch.nn.Parameter(torch.randn(3))
    noted.note = "an attribute"
    return {"plain": torch.nn.Parameter(torch.randn(2, 2)), "frozen": torch.nn.Parameter(torch.randn(2), requires_grad=False), "noted": noted}


def lightning():
    network = small_network()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.randn(2, 3, 5, 5)).sum().backward()
    optimiser.step()
    # A class of a module that will not exist where the file is read.
    module = types.ModuleType("lab_callbacks")
    checkpoint_class = type("LabCheckpoint", (), {"__module__": "lab_callbacks"})
    module.LabCheckpoint = checkpoint_class
    sys.modules["lab_callbacks"] = module
    instance = checkpoint_class()
    instance.best_model_path = "weights.ckpt"
    return {
        "epoch": 9,
        "global_step": 1000,
        "pytorch-lightning_version": "1.0.0",
        "state_dict": collections.OrderedDict((f"model.{name}", value) for name, value in network.state_dict().items()),
        "optimizer_states": [optimiser.state_dict()],
        "lr_schedulers": [],
        "callbacks": {checkpoint_class: {"best": torch.tensor(0.5), "instance": instance}, "exploit": Callback()},
        "hyper_parameters": {"lr": 0.1, "arch": "tiny", "device": torch.device("cpu"), "betas": (0.9, 0.999), "hook": Callback()},
    }


def numbers(tensor):
    """As float32 for the floating types (exactly what is expected of toFloat32), and as text for the integers."""
    flat = tensor.detach().contiguous().reshape(-1)
    if tensor.dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool):
        return [str(int(value)) for value in flat.tolist()]
    return [repr(value) for value in flat.to(torch.float32).tolist()]


def expected_of(tensors):
    return [
        {"name": name, "dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "numbers": numbers(tensor), "float32": [repr(v) for v in tensor.detach().to(torch.float32).reshape(-1).tolist()]}
        for name, tensor in tensors.items()
    ]


expected = {"torch": torch.__version__, "files": {}}


def save(name, value, tensors, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    (folder / name).write_bytes(buffer.getvalue())
    expected["files"][name] = {"format": "LEGACY" if options.get("_use_new_zipfile_serialization") is False else "ZIP", "tensors": expected_of(tensors)}


for suffix, options in [("zip", {}), ("legacy", {"_use_new_zipfile_serialization": False})]:
    for name, value in [("dtypes", every_dtype()), ("views", views()), ("network", small_network().state_dict()), ("parameters", parameters())]:
        save(f"{name}.{suffix}.pt", value, value, **options)
    value = lightning()
    save(f"lightning.{suffix}.ckpt", value, value["state_dict"], **options)

for protocol in (3, 4, 5):
    value = {"nested": {"weight": torch.randn(2, 2)}, "epoch": 2**70}
    save(f"protocol{protocol}.zip.pt", value, {"nested.weight": value["nested"]["weight"]}, pickle_protocol=protocol)
    save(f"protocol{protocol}.legacy.pt", value, {"nested.weight": value["nested"]["weight"]}, pickle_protocol=protocol, _use_new_zipfile_serialization=False)

torch.serialization.set_crc32_options(False)
value = {"weight": torch.randn(2)}
save("no-checksums.zip.pt", value, value)
torch.serialization.set_crc32_options(True)

(here / "torch-checkpoint-expected.json").write_text(json.dumps(expected, indent=1) + "\n")
print(sum(path.stat().st_size for path in folder.iterdir()), "bytes in", len(list(folder.iterdir())), "files")
