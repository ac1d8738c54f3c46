"""Writes methods-expected.json: steps of the pretraining methods in PyTorch, float64, written from their papers, for weights and views that both sides compute from one formula.

Run in an environment with torch, torchvision and numpy: python test/golden/methods_oracle.py
"""
import json
import math
import pathlib

import torch.nn.functional as F
from encoder_oracle import build, torch, torchvision
from simclr_oracle import compared, views
from torch import nn
from vit_formula import formula_state

torch.set_num_threads(1)
COUNT, SIDE, STEPS, DIM = 4, 48, 10, 24
MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4
# So low that ten steps do not yet amplify float32's rounding.
PEAKS = {"SIMCLR": 5e-5, "BARLOW_TWINS": 1e-6, "VICREG": 1e-6}


class SimclrHead(nn.Sequential):
    def __init__(self, dim):
        super().__init__(nn.Identity(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, DIM))


class Projector(nn.Module):
    """The projector of Barlow Twins and VICReg; each view passes it in a call of its own."""

    def __init__(self, dim):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, DIM, bias=False), nn.BatchNorm1d(DIM), nn.ReLU(),
            nn.Linear(DIM, DIM, bias=False), nn.BatchNorm1d(DIM), nn.ReLU(), nn.Linear(DIM, DIM, bias=False),
        )

    def forward(self, embeddings):
        return torch.cat([self.layers(view) for view in embeddings.chunk(2)])

    def named_parameters(self, *args, **kwargs):
        return self.layers.named_parameters(*args, **kwargs)


def decoupled_contrastive(z, temperature=0.2):
    """DCL (Yeh et al. 2022, arXiv:2110.06848, equation 6): NT-Xent whose denominator leaves out the positive pair."""
    z = F.normalize(z, dim=1)
    similarity, count, total = z @ z.T / temperature, len(z), 0
    for row in range(count):
        partner = (row + count // 2) % count
        negatives = [column for column in range(count) if column not in (row, partner)]
        total = total - similarity[row, partner] + torch.logsumexp(similarity[row, negatives], 0)
    return total / count


def barlow_twins(z, weight=0.0051):
    a, b = (F.batch_norm(view, None, None, training=True) for view in z.chunk(2))
    correlation = a.T @ b / len(a)
    diagonal = torch.diagonal(correlation)
    return ((diagonal - 1) ** 2).sum() + weight * ((correlation ** 2).sum() - (diagonal ** 2).sum())


def vicreg(z, invariance=25, variance=25, covariance=1):
    a, b = z.chunk(2)
    total = invariance * F.mse_loss(a, b)
    for view in (a, b):
        total = total + variance * F.relu(1 - torch.sqrt(view.var(dim=0) + 1e-4)).mean() / 2
        matrix = torch.cov(view.T)
        total = total + covariance * (matrix - torch.diag(torch.diagonal(matrix))).pow(2).sum() / z.shape[1]
    return total


METHODS = {
    "SIMCLR": ({"temperature": 0.2, "projectionDim": DIM, "decoupled": True}, "fc.", SimclrHead, decoupled_contrastive),
    "BARLOW_TWINS": ({"projectionDim": DIM, "redundancyWeight": 0.0051}, "projector.", Projector, barlow_twins),
    "VICREG": ({"projectionDim": DIM, "invarianceWeight": 25, "varianceWeight": 25, "covarianceWeight": 1}, "projector.", Projector, vicreg),
}


def train(method, dtype):
    _, prefix, make_head, loss_of = METHODS[method]
    encoder = build("RESNET18").to(dtype).train()
    head = make_head(encoder.inplanes).to(dtype).train()
    own = {prefix + name: parameter for name, parameter in head.named_parameters()}
    for name, value in formula_state(own).items():
        own[name].data = value.to(dtype)
    named = {**dict(encoder.named_parameters()), **own}
    begin = {name: parameter.detach().clone() for name, parameter in named.items()}
    velocities = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    losses, first = [], None
    for step in range(STEPS):
        for parameter in named.values():
            parameter.grad = None
        loss = loss_of(head(encoder(views(step, COUNT, SIDE, SIDE, dtype))))
        loss.backward()
        losses.append(float(loss.detach()))
        if first is None:
            first = {name: parameter.grad.clone() for name, parameter in named.items()}
        rate = PEAKS[method] * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        with torch.no_grad():
            for name, parameter in named.items():
                decay = WEIGHT_DECAY if parameter.dim() > 1 else 0
                velocities[name] = MOMENTUM * velocities[name] + parameter.grad + decay * parameter
                parameter -= rate * velocities[name]
    return losses, first, {name: parameter.detach() - begin[name] for name, parameter in named.items()}


def case(method):
    config, prefix, make_head, _ = METHODS[method]
    exact, rough = train(method, torch.float64), train(method, torch.float32)
    head = {prefix + name: list(parameter.shape) for name, parameter in make_head(512).named_parameters()}
    return {
        "method": {"name": method, **config}, "peakLearningRate": PEAKS[method], "head": list(head.items()), "losses": exact[0],
        "float32LossError": max(abs(a - b) / abs(a) for a, b in zip(exact[0], rough[0])),
        "gradients": compared(exact[1], rough[1]), "moved": compared(exact[2], rough[2]),
    }


def main():
    facts = {
        "oracle": f"torch {torch.__version__}, torchvision {torchvision.__version__}", "count": COUNT, "sidePx": SIDE,
        "momentum": MOMENTUM, "weightDecay": WEIGHT_DECAY, "totalSteps": STEPS, "cases": [case(method) for method in METHODS],
    }
    target = pathlib.Path(__file__).with_name("methods-expected.json")
    target.write_text(json.dumps(facts) + "\n")
    for entry in facts["cases"]:
        worst = {part: max(each["float32Error"] for each in entry[part].values()) for part in ("gradients", "moved")}
        print(entry["method"]["name"], entry["losses"][0], entry["losses"][-1], entry["float32LossError"], worst)
    print(target.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
