"""Loads Paraffin's exports with the real libraries, as strictly as they can, and embeds the shared images.

usage: python compat/load_exports.py WORK_DIR ENCODER...

Reads   WORK_DIR/<encoder>/plain.safetensors       as Paraffin stores and serves weights, made from plain.pt
        WORK_DIR/<encoder>/encoder.pt, encoder.onnx, encoder-tfjs.zip
Writes  WORK_DIR/<encoder>/safetensors-<size>.f32, pytorch-<size>.f32, onnx-<size>.f32
        WORK_DIR/<encoder>/tfjs/                   the TF.js zip, tested and unpacked by Python's zipfile
        WORK_DIR/<encoder>/load-faults.json        format to what went wrong
"""
import json
import pathlib
import sys
import zipfile

import numpy as np
import onnx
import onnxruntime
import safetensors
import safetensors.torch
import torch
from real_torchvision import torchvision

torch.set_num_threads(2)
work_dir = pathlib.Path(sys.argv[1])
images_facts = json.loads((work_dir / "images.json").read_text())


def images_of(size):
    pixels = np.fromfile(work_dir / f"images-{size}.u8", dtype=np.uint8).reshape(-1, size, size, 3)
    scaled = pixels.astype(np.float32) / np.float32(255)
    normalised = (scaled - np.float32(images_facts["channelMean"])) / np.float32(images_facts["channelStd"])
    return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))


def embed_strictly(state, target, encoder, name):
    model = getattr(torchvision.models, encoder.lower())()
    model.fc = torch.nn.Identity()
    model.load_state_dict(state, strict=True)
    model.eval()
    with torch.no_grad():
        for size in images_facts["sizesPx"]:
            model(torch.from_numpy(images_of(size))).numpy().tofile(target / f"{name}-{size}.f32")


def load_safetensors(target, encoder):
    path = target / "plain.safetensors"
    with safetensors.safe_open(path, framework="pt") as opened:
        assert set(opened.metadata()) == {"format", "architecture", "inputContract"}
    state = safetensors.torch.load_file(path)
    for name, tensor in safetensors.torch.load_file(target / "weights.safetensors").items():
        assert state[name].dtype == tensor.dtype and torch.equal(state[name], tensor), f"{name} is not what Python wrote"
    embed_strictly(state, target, encoder, "safetensors")


def load_pytorch(target, encoder):
    for name, mapped in (("read", False), ("mapped", True)):
        state = torch.load(target / "encoder.pt", weights_only=True, mmap=mapped)
        expected = getattr(torchvision.models, encoder.lower())().state_dict()
        assert list(state) == [key for key in expected if not key.startswith("fc.")], f"another order of keys, {name}"
    embed_strictly(state, target, encoder, "pytorch")


def load_onnx(target, _encoder):
    path = str(target / "encoder.onnx")
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    assert {entry.key for entry in model.metadata_props} >= {"architecture", "inputContract", "preparation"}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in images_facts["sizesPx"]:
        (embeddings,) = session.run(["embeddings"], {"images": images_of(size)})
        (first,) = session.run(None, {"images": images_of(size)[:1]})
        assert first.shape == (1, embeddings.shape[1])
        embeddings.tofile(target / f"onnx-{size}.f32")


def unpack_tfjs(target, _encoder):
    with zipfile.ZipFile(target / "encoder-tfjs.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(target / "tfjs")


for encoder in sys.argv[2:]:
    target = work_dir / encoder
    faults = {}
    for name, load in (("SAFETENSORS", load_safetensors), ("PYTORCH", load_pytorch), ("ONNX", load_onnx), ("TFJS", unpack_tfjs)):
        try:
            load(target, encoder)
        except Exception as error:  # every way in which a library refuses a file is a finding
            faults[name] = f"{type(error).__name__}: {error}"[:500]
    (target / "load-faults.json").write_text(json.dumps(faults))
print(json.dumps({"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}))
