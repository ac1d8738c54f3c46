"""timm's side of the comparison of vision transformers.

usage: python compat/vit_models.py make WORK_DIR    makes networks with random weights, saves and embeds
       python compat/vit_models.py load WORK_DIR    loads Paraffin's exports, as strictly as the libraries can, and embeds

Writes  WORK_DIR/<name>/plain.pt, plain.safetensors   the state dict
        WORK_DIR/<name>/use.json                      what to state at the import
        WORK_DIR/<name>/timm-<size>.f32, exact-<size>.f32 (float64)
        WORK_DIR/<name>/pytorch-<size>.f32, onnx-<size>.f32, load-faults.json
"""
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
import safetensors.torch
import timm
import torch
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer

torch.set_num_threads(2)
command, work_dir = sys.argv[1], pathlib.Path(sys.argv[2])
images_facts = json.loads((work_dir / "images.json").read_text())

def vit_small():
    return timm.create_model("vit_small_patch16_224", num_classes=0, dynamic_img_size=True)


# name: (how timm makes it, pooling, what the tensors do not tell, side of the images in px, dtype of the saved weights)
NETWORKS = {
    "VIT_S16": (vit_small, "CLS", {}, 224, torch.float32),
    # Positions of 14 x 14 patches, interpolated to 4 x 4.
    "VIT_S16 at 64 px": (vit_small, "MEAN", {}, 64, torch.float32),
    # timm computes in float32 with the rounded weights, as Paraffin does.
    "VIT_S16 in bfloat16": (vit_small, "CLS", {}, 224, torch.bfloat16),
    # Positions of 37 x 37 patches, interpolated to 16 x 16.
    "VIT_B14_REG4": (lambda: timm.create_model("vit_base_patch14_reg4_dinov2", num_classes=0, dynamic_img_size=True), "CLS", {}, 224, torch.float32),
    "VIT_W384_D4_P16_REG8_SWIGLU": (
        lambda: VisionTransformer(
            img_size=224, patch_size=16, embed_dim=384, depth=4, num_heads=8, mlp_ratio=5.33334, mlp_layer=SwiGLUPacked,
            act_layer=torch.nn.SiLU, reg_tokens=8, no_embed_class=True, init_values=1e-5, num_classes=0),
        "CLS_AND_MEAN",
        {"headCount": 8},
        224,
        torch.float32,
    ),
}


def images(size):
    pixels = np.fromfile(work_dir / f"images-{size}.u8", dtype=np.uint8).reshape(-1, size, size, 3)
    scaled = pixels.astype(np.float32) / np.float32(255)
    normalised = (scaled - np.float32(images_facts["channelMean"])) / np.float32(images_facts["channelStd"])
    return torch.from_numpy(np.ascontiguousarray(normalised.transpose(0, 3, 1, 2)))


def embed(model, pooling, x):
    with torch.no_grad():
        tokens = model.eval().forward_features(x)
    cls, mean = tokens[:, 0], tokens[:, model.num_prefix_tokens :].mean(1)
    return {"CLS": cls, "MEAN": mean, "CLS_AND_MEAN": torch.cat([cls, mean], 1)}[pooling].float().numpy()


def randomise(model):
    """Every tensor matters: timm's layer scales of 1e-5 and zero biases would hide most of the network."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1 and name.endswith("weight"):
            noise = noise / parameter[0].numel() ** 0.5
        elif name.endswith("weight") or name.endswith("gamma"):
            noise = 0.5 + 0.1 * noise
        else:
            noise = 0.1 * noise
        parameter.data.copy_(noise)


def make(name, target):
    build, pooling, specification, size, dtype = NETWORKS[name]
    model = build()
    randomise(model)
    state = model.to(dtype).state_dict()
    torch.save(state, target / "plain.pt")
    safetensors.torch.save_file(state, target / "plain.safetensors")
    (target / "use.json").write_text(json.dumps({"pooling": pooling, "imageSizePx": size, "specification": specification}))
    embed(model.float(), pooling, images(size)).tofile(target / f"timm-{size}.f32")
    embed(model.double(), pooling, images(size).double()).tofile(target / f"exact-{size}.f32")


def load_pytorch(name, target):
    build, pooling, _, size, _ = NETWORKS[name]
    state = torch.load(target / "encoder.pt", weights_only=True)
    model = build()
    assert list(state) == list(model.state_dict()), "another order of keys"
    model.load_state_dict(state, strict=True)
    embed(model, pooling, images(size)).tofile(target / f"pytorch-{size}.f32")


def load_safetensors(name, target):
    build, pooling, _, size, dtype = NETWORKS[name]
    model = build()
    state = safetensors.torch.load_file(target / "weights-pickle.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {dtype}, "another dtype than was imported"
    model.load_state_dict(state, strict=True)
    embed(model, pooling, images(size)).tofile(target / f"safetensors-{size}.f32")


def load_onnx(name, target):
    size = NETWORKS[name][3]
    path = str(target / "encoder.onnx")
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (embeddings,) = session.run(["embeddings"], {"images": images(size).numpy()})
    (first,) = session.run(None, {"images": images(size).numpy()[:1]})
    assert first.shape == (1, embeddings.shape[1])
    embeddings.tofile(target / f"onnx-{size}.f32")


for name in NETWORKS:
    target = work_dir / name
    target.mkdir(exist_ok=True)
    if command == "make":
        make(name, target)
        continue
    faults = {}
    for format, load in (("PYTORCH", load_pytorch), ("SAFETENSORS", load_safetensors), ("ONNX", load_onnx)):
        try:
            load(name, target)
        except Exception as error:  # every way in which a library refuses a file is a finding
            faults[format] = f"{type(error).__name__}: {error}"[:500]
    (target / "load-faults.json").write_text(json.dumps(faults))
print(json.dumps({"timm": timm.__version__}))
