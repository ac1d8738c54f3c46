"""Writes simclr-expected.json: SimCLR in PyTorch, written from the papers, for weights and views that both sides compute from one formula.

Run in an environment with torch, torchvision and numpy: python test/golden/simclr_oracle.py

All of it is computed in float64; next to it is how far PyTorch's own float32 is from that. Where a rounding puts one of a million
activations on the other side of zero, its gradient is another one: in ResNet-18 with few pixels none is, in a ResNet-50 some always are.
"""
import json
import math
import pathlib

import numpy as np
import torch.nn.functional as F
from encoder_oracle import build, noise, torch, torchvision
from torch import nn

SKETCH_SIZE = 16
TEMPERATURE, PROJECTION_DIM, WEIGHT_DECAY, MOMENTUM, PEAK, WARMUP, STEPS = 0.5, 32, 1e-4, 0.9, 0.005, 5, 20


def sketch(name, tensor):
    """A count sketch (Charikar et al. 2002): every number, with a sign of its own, is added to one of 16 sums. Lengths and differences of tensors keep theirs."""
    values = tensor.detach().double().flatten().numpy()
    signed = np.where(noise("sketch " + name, len(values)) < 0, -values, values)
    padded = np.concatenate([signed, np.zeros(-len(signed) % SKETCH_SIZE)])
    return padded.reshape(-1, SKETCH_SIZE).sum(axis=0)


class SimClr(nn.Module):
    def __init__(self, architecture):
        super().__init__()
        self.encoder = build(architecture)
        dim = self.encoder.inplanes
        self.fc = nn.Sequential(nn.Identity(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, PROJECTION_DIM))
        for name, parameter in self.fc.named_parameters():
            scale = np.float32(2 / math.sqrt(dim))
            parameter.data = torch.from_numpy(noise("fc." + name, parameter.numel()).reshape(tuple(parameter.shape)) * scale)

    def named(self):
        return [*self.encoder.named_parameters(), *(("fc." + name, parameter) for name, parameter in self.fc.named_parameters())]

    def forward(self, views):
        return self.fc(self.encoder(views))


def nt_xent(projections):
    """The mean over 2N of -log(exp(s_ij / t) / sum over k != i of exp(s_ik / t)), j the partner of i (Chen et al. 2020, equation 1)."""
    z = F.normalize(projections, dim=1)
    similarity = z @ z.T / TEMPERATURE
    count = len(z)
    others = ~torch.eye(count, dtype=torch.bool)
    total = 0
    for row in range(count):
        partner = (row + count // 2) % count
        total = total - similarity[row, partner] + torch.logsumexp(similarity[row][others[row]], 0)
    return total / count


def learning_rate(step):
    if step < WARMUP:
        return PEAK * (step + 1) / WARMUP
    return PEAK * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


def views(step, count, height, width, dtype):
    values = noise(f"views {step}", 2 * count * height * width * 3).reshape(2 * count, height, width, 3) * np.float32(4)
    # Partners share three quarters of what they show.
    values[count:] = values[count:] * np.float32(0.25) + values[:count] * np.float32(0.75)
    return torch.from_numpy(values).permute(0, 3, 1, 2).contiguous().to(dtype)


def train(architecture, count, height, width, steps, dtype):
    model = SimClr(architecture).to(dtype).train()
    begin = {name: parameter.detach().clone() for name, parameter in model.named()}
    velocities = {name: torch.zeros_like(parameter) for name, parameter in model.named()}
    losses, first = [], None
    for step in range(steps):
        model.zero_grad()
        loss = nt_xent(model(views(step, count, height, width, dtype)))
        loss.backward()
        losses.append(float(loss.detach()))
        if first is None:
            first = {name: parameter.grad.clone() for name, parameter in model.named()}
        with torch.no_grad():
            for name, parameter in model.named():
                gradient, trust = parameter.grad, 1.0
                if parameter.dim() > 1:
                    gradient = gradient + WEIGHT_DECAY * parameter
                    trust = 0.001 * parameter.norm() / gradient.norm()
                velocities[name] = MOMENTUM * velocities[name] + learning_rate(step) * trust * gradient
                parameter -= velocities[name]
    moved = {name: parameter.detach() - begin[name] for name, parameter in model.named()}
    statistics = {name: tensor for name, tensor in model.encoder.state_dict().items() if "running" in name}
    return {"losses": losses, "gradients": first, "moved": moved, "statistics": statistics}


def relative(actual, exact):
    return float((actual.double() - exact.double()).norm() / exact.double().norm())


def compared(exact, rough):
    return {name: {"length": float(tensor.double().norm()), "float32Error": relative(rough[name], tensor), "sketch": [float(f"{v:.7g}") for v in sketch(name, tensor)]} for name, tensor in exact.items()}


def case(architecture, count, height, width, steps):
    exact, rough = (train(architecture, count, height, width, steps, dtype) for dtype in (torch.float64, torch.float32))
    return {
        "architecture": architecture, "count": count, "heightPx": height, "widthPx": width,
        "losses": exact["losses"], "float32LossError": max(abs(a - b) for a, b in zip(exact["losses"], rough["losses"])),
        "gradients": compared(exact["gradients"], rough["gradients"]) if steps == 1 else {},
        # One step moves most weights by less than float32 can resolve.
        "moved": compared(exact["moved"], rough["moved"]) if steps > 1 else {}, "statistics": compared(exact["statistics"], rough["statistics"]),
    }


def main():
    torch.set_num_threads(2)
    facts = {
        "oracle": f"torch {torch.__version__}, torchvision {torchvision.__version__}",
        "temperature": TEMPERATURE, "projectionDim": PROJECTION_DIM, "weightDecay": WEIGHT_DECAY, "momentum": MOMENTUM, "peakLearningRate": PEAK, "warmupSteps": WARMUP, "totalSteps": STEPS,
        "learningRates": [learning_rate(step) for step in range(STEPS)],
        "cases": [case("RESNET18", 8, 32, 32, STEPS), case("RESNET18", 4, 75, 50, 1), case("RESNET18", 4, 48, 48, 1), case("RESNET50", 4, 64, 64, 1)],
    }
    target = pathlib.Path(__file__).with_name("simclr-expected.json")
    target.write_text(json.dumps(facts) + "\n")
    for entry in facts["cases"]:
        for part in ("gradients", "moved", "statistics"):
            if not entry[part]:
                continue
            worst = max(entry[part], key=lambda name: entry[part][name]["float32Error"])
            print(entry["architecture"], part, worst, entry[part][worst]["float32Error"])
    print(target.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
