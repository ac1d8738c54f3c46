"""Makes one encoder of each architecture with real torchvision, saves it as people save theirs, and embeds the shared images.

usage: python compat/reference.py WORK_DIR ENCODER...

Reads   WORK_DIR/images.json, WORK_DIR/images-<size>.u8
Writes  WORK_DIR/<encoder>/weights.safetensors     by Python's safetensors, without fc
        WORK_DIR/<encoder>/plain.pt                torch.save(model.state_dict())
        WORK_DIR/<encoder>/legacy.pt               the same before PyTorch 1.6
        WORK_DIR/<encoder>/lightning.ckpt          as the paper's: model.resnet.*, projection head in fc, an optimiser, a callback
        WORK_DIR/<encoder>/torchvision-<size>.f32  the embeddings
        WORK_DIR/<encoder>/exact-<size>.f32        those of the smallest size, computed in double precision
"""
import json
import pathlib
import sys

import numpy as np
import safetensors.torch
import torch
from real_torchvision import torchvision

torch.set_num_threads(2)
work_dir = pathlib.Path(sys.argv[1])
images_facts = json.loads((work_dir / "images.json").read_text())


def images_of(size):
    pixels = np.fromfile(work_dir / f"images-{size}.u8", dtype=np.uint8).reshape(-1, size, size, 3)
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(images_facts["channelMean"]).view(1, 3, 1, 1)
    std = torch.tensor(images_facts["channelStd"]).view(1, 3, 1, 1)
    return (scaled - mean) / std


def build(encoder):
    """Random weights that behave like trained ones: no two channels alike, small steps in the residual blocks, running statistics of real batches."""
    torch.manual_seed(sum(encoder.encode()))
    model = getattr(torchvision.models, encoder.lower())()
    model.fc = torch.nn.Identity()
    last_norm = "bn3" if hasattr(model.layer1[0], "bn3") else "bn2"
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            low, high = (0.1, 0.5) if name.startswith("layer") and name.endswith(last_norm) else (0.5, 1.5)
            torch.nn.init.uniform_(module.weight, low, high)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            module.momentum = 0.5
    model.train()
    with torch.no_grad():
        for _ in range(3):
            blurred = torch.nn.functional.interpolate(torch.randn(8, 3, 16, 16), size=64, mode="bilinear")
            model(blurred + 0.2 * torch.randn(8, 3, 64, 64))
    return model.eval()


class PretrainingCallback:
    """Stands for the objects that Lightning pickles beside the weights: a reader must not need to know them."""

    def __init__(self):
        self.best_model_path = "somewhere/epoch=9.ckpt"


def lightning_checkpoint(model, width):
    head = {"fc.1.weight": torch.randn(width, width), "fc.1.bias": torch.randn(width), "fc.3.weight": torch.randn(128, width), "fc.3.bias": torch.randn(128)}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return {
        "epoch": 9,
        "global_step": 1000,
        "pytorch-lightning_version": "1.0.4",
        "state_dict": {f"model.resnet.{name}": tensor for name, tensor in {**model.state_dict(), **head}.items()},
        "optimizer_states": [optimizer.state_dict()],
        "callbacks": {PretrainingCallback: PretrainingCallback()},
        "hyper_parameters": {"batch_size": 512, "lr": 0.3, "note": None},
    }


for encoder in sys.argv[2:]:
    target = work_dir / encoder
    target.mkdir(parents=True, exist_ok=True)
    model = build(encoder)
    safetensors.torch.save_file(model.state_dict(), target / "weights.safetensors")
    torch.save(model.state_dict(), target / "plain.pt")
    torch.save(model.state_dict(), target / "legacy.pt", _use_new_zipfile_serialization=False)
    with torch.no_grad():
        for size in images_facts["sizesPx"]:
            embeddings = model(images_of(size))
            embeddings.numpy().astype("<f4").tofile(target / f"torchvision-{size}.f32")
    torch.save(lightning_checkpoint(model, embeddings.shape[1]), target / "lightning.ckpt")
    # In double precision: how far PyTorch's own float32 is from the exact answer says how much of a difference is rounding. Last, because it changes the model.
    model.double()
    with torch.no_grad():
        size = min(images_facts["sizesPx"])
        model(images_of(size).double()).numpy().astype("<f4").tofile(target / f"exact-{size}.f32")
print(json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__, "safetensors": safetensors.__version__, "python": sys.version.split()[0]}))
