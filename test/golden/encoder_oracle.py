"""Writes encoder-expected.json: what torchvision's ResNets answer for weights and images that both sides compute from one formula.

Run in an environment with torch, torchvision and numpy: python test/golden/encoder_oracle.py
"""
import json
import pathlib

import numpy as np
import torch

try:
    import torchvision
except RuntimeError:
    # torchvision built for another torch has no compiled detection ops; its ResNets need none, but its import asks that they be declared.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d", "_roi_align_backward", "_roi_pool_backward"):
        try:
            library.define(name + "(Tensor a) -> Tensor")
        except RuntimeError:
            pass
    import torchvision

from formula import formula_images, noise


def formula_state(model):
    state = {}
    for name, tensor in model.state_dict().items():
        shape = tuple(tensor.shape)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
            continue
        values = noise(name, tensor.numel()).reshape(shape)
        if len(shape) == 4:
            values = values * np.float32(np.sqrt(24 / (shape[0] * shape[2] * shape[3])))
        elif name.endswith("running_var") or name.endswith(".weight"):
            values = 1 + values * np.float32(0.4)
        else:
            values = values * np.float32(0.4)
        state[name] = torch.from_numpy(np.ascontiguousarray(values))
    return state


def build(architecture):
    model = getattr(torchvision.models, architecture.lower())()
    model.fc = torch.nn.Identity()
    model.load_state_dict(formula_state(model))
    return model


def images(count, height, width):
    return torch.from_numpy(np.ascontiguousarray(formula_images(count, height, width)))


def summary(values):
    flat = values.detach().double().flatten()
    picks = [int(position) for position in np.linspace(0, len(flat) - 1, 5)]
    return {"norm": float(flat.norm()), "entries": [[position, float(flat[position])] for position in picks]}


def train(model, x):
    model.train()
    embeddings = model(x)
    weights = torch.from_numpy(noise("embedding gradient", embeddings.numel()).reshape(embeddings.shape)).to(x.dtype)
    (embeddings * weights).sum().backward()
    return {"embeddings": embeddings.detach(), "gradients": {name: parameter.grad for name, parameter in model.named_parameters()}, "state": model.state_dict()}


TARGET = pathlib.Path(__file__).with_name("encoder-expected.json")

# Float32 runs beside the exact one. One alone tells too little: in deep networks a rounding puts one activation of a million on the other side of zero or it does
# not, and where it does, a gradient moves a hundred times as far. Processors round otherwise too, so what an earlier run of this script found elsewhere is kept.
FLOAT32_RUNS = 16


def known_errors(architecture, height, width, kind):
    cases = json.loads(TARGET.read_text())["cases"] if TARGET.exists() else []
    gradients = [case["training"]["gradients"] for case in cases if (case["architecture"], case["heightPx"], case["widthPx"]) == (architecture, height, width)]
    return {name: gradient.get(kind, 0) for name, gradient in gradients[0].items()} if gradients else {}


def nudged(x, run):
    """The images, each number moved by about a unit in its last place: as much as a rounding does. Run 0 is the images themselves."""
    return x if run == 0 else x * (1 + torch.from_numpy(np.sign(noise(f"nudge {run}", x.numel())).reshape(x.shape)) * 2**-23)


def float32_error(exact, rough):
    return float((exact - rough.double()).abs().max() / exact.square().mean().sqrt())


def float32_norm_error(exact, rough):
    return abs(float(rough.double().norm() / exact.norm()) - 1)


def worst(kind, error, name, exact, runs, known):
    return {kind: max(known[kind].get(name, 0), *(error(exact, gradients[name]) for gradients in runs))}


def case(architecture, count, height, width, with_gradients):
    model = build(architecture)
    x = images(count, height, width)
    model.eval()
    with torch.no_grad():
        inference = model(x)
    out = {"architecture": architecture, "count": count, "heightPx": height, "widthPx": width, "embeddings": [[round(float(v), 7) for v in row[:48]] for row in inference],
           "embeddingNorms": [float(row.double().norm()) for row in inference]}
    if with_gradients:
        exact = train(build(architecture).double(), x.double())
        known = {kind: known_errors(architecture, height, width, kind) for kind in ("float32Error", "float32NormError")}
        rough = [train(build(architecture), nudged(x, run))["gradients"] for run in range(FLOAT32_RUNS)]
        out["training"] = {
            "embeddings": [[round(float(v), 7) for v in row[:16]] for row in exact["embeddings"]],
            # How far PyTorch's own float32 is from the exact gradient: deep networks amplify rounding in any implementation.
            "gradients": {
                name: {
                    **summary(gradient),
                    **worst("float32Error", float32_error, name, gradient, rough, known),
                    # Where single entries are off, the length is hardly: it is held more closely.
                    **worst("float32NormError", float32_norm_error, name, gradient, rough, known),
                }
                for name, gradient in exact["gradients"].items()
            },
            "statistics": {name: summary(tensor) for name, tensor in exact["state"].items() if "running" in name},
        }
    return out


def main():
    torch.set_num_threads(2)
    torch.manual_seed(0)
    cases = [
        case("RESNET18", 4, 64, 64, True),
        case("RESNET18", 4, 75, 50, True),
        case("RESNET18", 2, 224, 224, False),
        case("RESNET34", 2, 64, 64, False),
        case("RESNET50", 4, 96, 96, True),
        case("RESNET101", 1, 64, 64, False),
        case("WIDE_RESNET50_2", 1, 64, 64, False),
    ]
    facts = {"oracle": f"torchvision {torchvision.__version__}, torch {torch.__version__}", "cases": cases}
    TARGET.write_text(json.dumps(facts) + "\n")
    print(TARGET.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
