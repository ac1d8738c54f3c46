"""Writes lightning-resnet18.ckpt and lightning-encoder-expected.json: a whole ResNet-18 as the published ones come, saved by real PyTorch.

A ResNet-18 has 45 MB; this file has a hundredth of it, because its filters are overlapping views of one short storage, as a state dict may
hold them. So every reader must get offsets, strides and shared storages right to see the numbers that PyTorch sees.

Run in an environment with torch and torchvision: python test/golden/lightning_encoder_oracle.py
"""
import collections
import hashlib
import json
import os
import pathlib
import sys
import types

import numpy as np
import torch

here = pathlib.Path(__file__).parent
sys.path.insert(0, str(here.parents[1] / "compat"))
from real_torchvision import torchvision  # noqa: E402

torch.set_num_threads(2)
torch.manual_seed(11)
IMAGE_SIZE_PX = 64
POOL = torch.randn(9_001)


class Hook:
    """Loading it in Python would run a command."""

    def __reduce__(self):
        return os.system, ("echo this must never be printed",)


def view_of(pool, shape, seed):
    """As many different numbers as the pool allows; no axis is contiguous."""
    room = len(pool) - 1
    strides = []
    for position, size in enumerate(shape):
        strides.append(max(1, (room - 40) // (2 * max(size - 1, 1))) if position < 2 else (5, 2)[position - 2])
    while sum((size - 1) * stride for size, stride in zip(shape, strides)) > room - 40:
        strides[0] -= 1
    return pool.as_strided(shape, strides, seed % 40)


def build():
    model = torchvision.models.resnet18()
    model.fc = torch.nn.Identity()
    state = collections.OrderedDict()
    scales, offsets = 0.5 + torch.rand(512), 0.2 * torch.randn(512)
    for position, (name, tensor) in enumerate(model.state_dict().items()):
        if tensor.dim() == 4:
            state[name] = view_of(POOL, tuple(tensor.shape), position)
        elif name.endswith(".weight"):
            state[name] = scales[: len(tensor)]
        elif name.endswith(".bias"):
            state[name] = offsets[: len(tensor)]
        else:
            state[name] = tensor.clone()
    model.load_state_dict(state)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5
    model.train()
    with torch.no_grad():
        for _ in range(4):
            blurred = torch.nn.functional.interpolate(torch.randn(8, 3, 16, 16), size=IMAGE_SIZE_PX, mode="bilinear")
            model(blurred + 0.2 * torch.randn(8, 3, IMAGE_SIZE_PX, IMAGE_SIZE_PX))
    for name, tensor in model.state_dict().items():
        if "running" in name or "tracked" in name:
            state[name] = tensor.clone()
    return model.eval(), state


def golden_image():
    """The formula of workers/engine/golden-image.ts, with mean and standard deviation 0.5."""
    row, column = np.mgrid[0:IMAGE_SIZE_PX, 0:IMAGE_SIZE_PX]
    last = IMAGE_SIZE_PX - 1
    pixels = np.stack([255 * column // last, 255 * row // last, (row * row + column * column) % 256], axis=-1)
    scaled = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None] / 255
    return (scaled - 0.5) / 0.5


def lightning(state):
    module = types.ModuleType("lab_callbacks")
    checkpoint_class = type("ModelCheckpoint", (), {"__module__": "lab_callbacks"})
    module.ModelCheckpoint = checkpoint_class
    sys.modules["lab_callbacks"] = module
    callback = checkpoint_class()
    callback.best_model_path = "epoch=999.ckpt"
    head = {"fc.1.weight": view_of(POOL, (512, 512), 1), "fc.1.bias": POOL[:512], "fc.3.weight": view_of(POOL, (128, 512), 3), "fc.3.bias": POOL[:128]}
    momentum = {index: {"momentum_buffer": torch.zeros(1).expand(tensor.shape)} for index, tensor in enumerate(list(state.values())[:4])}
    return {
        "epoch": 999,
        "global_step": 400_000,
        "pytorch-lightning_version": "1.0.4",
        "state_dict": collections.OrderedDict((f"model.resnet.{name}", tensor) for name, tensor in {**state, **head}.items()),
        "optimizer_states": [{"state": momentum, "param_groups": [{"lr": 0.3, "params": [0, 1, 2, 3]}]}],
        "lr_schedulers": [],
        "callbacks": {checkpoint_class: callback, "on_load": Hook()},
        "hyper_parameters": {"batch_size": 512, "temperature": 0.5, "device": torch.device("cpu")},
    }


def rounding_difference(model, state, dtype, embedding):
    """How far rounding every weight and statistic to the dtype moves the embedding, relative to its root mean square."""
    model.float().load_state_dict({name: tensor.to(dtype).float() if tensor.is_floating_point() else tensor for name, tensor in state.items()})
    with torch.no_grad():
        rounded = model.eval()(golden_image())[0]
    return float((rounded - embedding).abs().max() / embedding.square().mean().sqrt())


def digest(tensor):
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


model, state = build()
with torch.no_grad():
    embedding = model(golden_image())[0]
    exact = model.double()(golden_image().double())[0]
rounding = float((embedding.double() - exact).abs().max() / exact.square().mean().sqrt())
checkpoint = here / "lightning-resnet18.ckpt"
torch.save(lightning(state), checkpoint)
facts = {
    "oracle": f"torch {torch.__version__}, torchvision {torchvision.__version__}",
    "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
    "imageSizePx": IMAGE_SIZE_PX,
    # Of each tensor's numbers, contiguous and little-endian.
    "tensorSha256": {name: digest(tensor) for name, tensor in state.items()},
    # Of the golden image; how far float32 itself is from the exact one says how much of a difference is rounding.
    "embedding": [float(value) for value in embedding],
    "float32Error": rounding,
    "roundingDifference": {name: rounding_difference(model, state, dtype, embedding) for name, dtype in (("FLOAT16", torch.float16), ("BFLOAT16", torch.bfloat16))},
}
(here / "lightning-encoder-expected.json").write_text(json.dumps(facts) + "\n")
print(checkpoint.stat().st_size, "bytes; rounding", rounding, "; embedding", float(embedding.mean()), float(embedding.std()), int((embedding == 0).sum()))
