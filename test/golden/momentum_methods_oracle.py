"""Writes momentum-methods-expected.json: ten steps of the pretraining methods that keep a momentum encoder, in PyTorch and float64, written from their papers, for weights and views that both sides compute from one formula.

Run in an environment with torch, torchvision, timm and numpy: python test/golden/momentum_methods_oracle.py
"""
import copy
import json
import math
import pathlib

import numpy as np
import timm
import torch.nn.functional as F
from encoder_oracle import build, noise, torch, torchvision
from simclr_oracle import compared
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from vit_formula import formula_state

torch.set_num_threads(1)
STEPS = 10
MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 4}
VIT_STATED = {"patchSizePx": 8, "width": 24, "depth": 2, "headCount": 4, "mlpWidth": 96, "gridSize": 4}


def view_group(step, group, count, view_count, side, dtype):
    """All first views, then all second views; partners share three quarters of what they show."""
    values = noise(f"views {step} of group {group}", view_count * count * side * side * 3).reshape(view_count, count, side, side, 3) * np.float32(4)
    values[1:] = values[1:] * np.float32(0.25) + values[:1] * np.float32(0.75)
    return torch.from_numpy(values.reshape(view_count * count, side, side, 3)).permute(0, 3, 1, 2).contiguous().to(dtype)


def encoder_of(family):
    if family == "RESNET18":
        return build("RESNET18")
    model = VisionTransformer(**VIT, num_classes=0, dynamic_img_size=True)
    model.load_state_dict(formula_state(model.state_dict()))
    return model


def follow(ours, trained, momentum):
    with torch.no_grad():
        for own, other in zip(ours.parameters(), trained.parameters()):
            own.copy_(momentum * own + (1 - momentum) * other)


def cosine_momentum(start, step):
    return 1 - (1 - start) * (math.cos(math.pi * step / STEPS) + 1) / 2


class DinoHead(nn.Module):
    def __init__(self, dim, hidden, bottleneck, prototypes):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck))
        self.last_layer = nn.utils.parametrizations.weight_norm(nn.Linear(bottleneck, prototypes, bias=False))
        self.last_layer.parametrizations.weight.original0.data.fill_(1)
        self.last_layer.parametrizations.weight.original0.requires_grad = False

    def forward(self, x):
        return self.last_layer(F.normalize(self.mlp(x), dim=-1))

    def named(self):
        for name, parameter in self.named_parameters():
            if not name.endswith("original0"):
                yield name.replace("parametrizations.weight.original1", "weight_v"), parameter


class Dino:
    """Caron et al. 2021, algorithm 1, with multi-crop as its section 3.1."""

    config = {
        "name": "DINO", "prototypeCount": 40, "hiddenDim": 32, "bottleneckDim": 16, "studentTemperature": 0.1, "teacherTemperature": 0.04,
        "teacherMomentum": 0.5, "centreMomentum": 0.9, "localViewCount": 3, "localCropScaleMin": 0.05, "localCropScaleMax": 0.25,
    }

    def __init__(self, encoder, dim, dtype):
        c = self.config
        self.encoder, self.head = encoder, DinoHead(dim, c["hiddenDim"], c["bottleneckDim"], c["prototypeCount"])
        self.head.to(dtype)
        give_formula({"head." + name: parameter for name, parameter in self.head.named()}, dtype)
        self.teacher, self.teacher_head = copy.deepcopy(self.encoder), copy.deepcopy(self.head)
        self.centre = torch.zeros(1, c["prototypeCount"], dtype=dtype)

    def named(self):
        return {**dict(self.encoder.named_parameters()), **{"head." + name: parameter for name, parameter in self.head.named()}}

    def kept(self):
        state = {"exported." + name: tensor for name, tensor in self.teacher.state_dict().items() if not name.endswith("num_batches_tracked")}
        return {**state, **{"teacher.head." + name: parameter for name, parameter in self.teacher_head.named()}, "centre": self.centre}

    def loss(self, groups):
        c = self.config
        students = [view for group in groups for view in self.head(self.encoder(group)).split(len(groups[0]) // 2)]
        with torch.no_grad():
            outputs = self.teacher_head(self.teacher(groups[0]))
        self.outputs = outputs
        targets = F.softmax((outputs - self.centre) / c["teacherTemperature"], dim=-1).chunk(2)
        terms = [
            torch.sum(-target * F.log_softmax(student / c["studentTemperature"], dim=-1), dim=-1).mean()
            for own, target in enumerate(targets) for other, student in enumerate(students) if own != other
        ]
        return sum(terms) / len(terms)

    def after(self, step):
        momentum = cosine_momentum(self.config["teacherMomentum"], step)
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_head, self.head, momentum)
        kept = self.config["centreMomentum"]
        self.centre = self.centre * kept + self.outputs.mean(dim=0, keepdim=True) * (1 - kept)


def give_formula(own, dtype):
    for name, value in formula_state(own).items():
        own[name].data = value.to(dtype)


def infonce(queries, positives, negatives, temperature):
    """He et al. 2020, algorithm 1."""
    logits = torch.cat([torch.einsum("nc,nc->n", queries, positives)[:, None], torch.einsum("nc,kc->nk", queries, negatives)], dim=1)
    return F.cross_entropy(logits / temperature, torch.zeros(len(logits), dtype=torch.long))


class MocoV2:
    """Both views are queries in turn, against the other view's key and the queue."""

    config = {"name": "MOCO", "version": "V2", "projectionDim": 16, "contrastTemperature": 0.2, "keyMomentum": 0.5, "queueSize": 12}

    def __init__(self, encoder, dim, dtype):
        self.encoder = encoder
        self.head = nn.Sequential(nn.Identity(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, self.config["projectionDim"])).to(dtype)
        give_formula({"fc." + name: parameter for name, parameter in self.head.named_parameters()}, dtype)
        self.key_encoder, self.key_head = copy.deepcopy(encoder), copy.deepcopy(self.head)
        queue = torch.zeros(self.config["queueSize"], self.config["projectionDim"])
        self.queue = formula_state({"queue": queue})["queue"].to(dtype)

    def named(self):
        return {**dict(self.encoder.named_parameters()), **{"fc." + name: parameter for name, parameter in self.head.named_parameters()}}

    def kept(self):
        state = {"momentum.encoder." + name: tensor for name, tensor in self.key_encoder.state_dict().items() if not name.endswith("num_batches_tracked")}
        return {**state, **{"momentum.fc." + name: parameter for name, parameter in self.key_head.named_parameters()}, "queue": self.queue}

    def loss(self, groups):
        q1, q2 = F.normalize(self.head(self.encoder(groups[0])), dim=1).chunk(2)
        with torch.no_grad():
            self.keys = F.normalize(self.key_head(self.key_encoder(groups[0])), dim=1)
        k1, k2 = self.keys.chunk(2)
        temperature = self.config["contrastTemperature"]
        return (infonce(q1, k2, self.queue, temperature) + infonce(q2, k1, self.queue, temperature)) / 2

    def after(self, step):
        follow(self.key_encoder, self.encoder, self.config["keyMomentum"])
        follow(self.key_head, self.head, self.config["keyMomentum"])
        self.queue = torch.cat([self.keys, self.queue])[: self.config["queueSize"]]


def v3_head(*dims):
    layers = []
    for index, (inputs, outputs) in enumerate(zip(dims, dims[1:])):
        layers.append(nn.Linear(inputs, outputs, bias=False))
        layers += [nn.BatchNorm1d(outputs), nn.ReLU()] if index < len(dims) - 2 else [nn.BatchNorm1d(outputs, affine=False)]
    return nn.Sequential(*layers)


class MocoV3:
    """Chen, Xie and He 2021, algorithm 1; each view passes the heads in a call of its own."""

    config = {"name": "MOCO", "version": "V3", "projectionDim": 16, "contrastTemperature": 0.2, "keyMomentum": 0.5, "hiddenDim": 32}

    def __init__(self, encoder, dim, dtype):
        hidden, width = self.config["hiddenDim"], self.config["projectionDim"]
        self.encoder = encoder
        self.heads = nn.ModuleDict({"projector": v3_head(dim, hidden, hidden, width), "predictor": v3_head(width, hidden, width)}).to(dtype)
        give_formula(dict(self.heads.named_parameters()), dtype)
        self.key_encoder, self.key_projector = copy.deepcopy(encoder), copy.deepcopy(self.heads["projector"])

    def named(self):
        return {**dict(self.encoder.named_parameters()), **dict(self.heads.named_parameters())}

    def kept(self):
        state = {"momentum.encoder." + name: tensor for name, tensor in self.key_encoder.state_dict().items() if not name.endswith("num_batches_tracked")}
        return {**state, **{"momentum.projector." + name: parameter for name, parameter in self.key_projector.named_parameters()}}

    def loss(self, groups):
        queries = [self.heads["predictor"](self.heads["projector"](view)) for view in self.encoder(groups[0]).chunk(2)]
        with torch.no_grad():
            keys = [self.key_projector(view) for view in self.key_encoder(groups[0]).chunk(2)]
        return self.contrast(queries[0], keys[1]) + self.contrast(queries[1], keys[0])

    def contrast(self, query, key):
        temperature = self.config["contrastTemperature"]
        logits = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T / temperature
        return 2 * temperature * F.cross_entropy(logits, torch.arange(len(logits)))

    def after(self, step):
        momentum = cosine_momentum(self.config["keyMomentum"], step)
        follow(self.key_encoder, self.encoder, momentum)
        follow(self.key_projector, self.heads["projector"], momentum)


def train(method, family, images, groups, peak, dtype):
    encoder = encoder_of(family).to(dtype).train()
    model = method(encoder, 512 if family == "RESNET18" else VIT["embed_dim"], dtype)
    begin = {name: tensor.detach().clone() for name, tensor in {**model.named(), **model.kept()}.items()}
    velocities = {name: torch.zeros_like(parameter) for name, parameter in model.named().items()}
    losses, first = [], None
    for step in range(STEPS):
        for parameter in model.named().values():
            parameter.grad = None
        loss = model.loss([view_group(step, index, images, count, side, dtype) for index, (count, side) in enumerate(groups)])
        loss.backward()
        losses.append(float(loss.detach()))
        if first is None:
            first = {name: parameter.grad.clone() for name, parameter in model.named().items()}
        rate = peak * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        with torch.no_grad():
            for name, parameter in model.named().items():
                decay = WEIGHT_DECAY if parameter.dim() > 1 and name.endswith(("weight", "weight_v")) else 0
                velocities[name] = MOMENTUM * velocities[name] + parameter.grad + decay * parameter
                parameter -= rate * velocities[name]
        model.after(step)
    moved = {name: tensor.detach() - begin[name] for name, tensor in {**model.named(), **model.kept()}.items()}
    return losses, first, moved, model


def changing(tensors):
    """Without those that only rounding makes other than zero: a bias before a batch norm has no gradient."""
    longest = max(float(tensor.norm()) for tensor in tensors.values())
    return {name: tensor for name, tensor in tensors.items() if float(tensor.norm()) > 1e-9 * longest}


def case(method, family, images, groups, peak):
    exact, rough = (train(method, family, images, groups, peak, dtype) for dtype in (torch.float64, torch.float32))
    model = exact[3]
    encoder = {} if family == "RESNET18" else {name: list(tensor.shape) for name, tensor in model.encoder.state_dict().items()}
    own = {name: list(parameter.shape) for name, parameter in model.named().items() if name not in dict(model.encoder.named_parameters())}
    if "queueSize" in model.config:
        own["queue"] = list(model.queue.shape)
    return {
        "family": family, "specification": {} if family == "RESNET18" else VIT_STATED, "method": model.config, "count": images, "peakLearningRate": peak,
        "groups": [{"viewCount": count, "sidePx": side} for count, side in groups], "encoder": list(encoder.items()), "own": list(own.items()),
        "losses": exact[0], "float32LossError": max(abs(a - b) / abs(a) for a, b in zip(exact[0], rough[0])),
        "gradients": compared(changing(exact[1]), rough[1]), "moved": compared(changing(exact[2]), rough[2]),
    }


# The learning rates are so low that ten steps do not yet amplify float32's rounding.
CASES = [
    (Dino, "RESNET18", 4, [(2, 48), (3, 32)], 1e-4),
    (Dino, "VIT", 4, [(2, 32), (3, 16)], 1e-3),
    (MocoV2, "RESNET18", 4, [(2, 48)], 1e-4),
    (MocoV3, "RESNET18", 8, [(2, 32)], 1e-5),
    (MocoV3, "VIT", 8, [(2, 32)], 1e-4),
]


def main():
    facts = {
        "oracle": f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}",
        "momentum": MOMENTUM, "weightDecay": WEIGHT_DECAY, "totalSteps": STEPS, "cases": [case(*each) for each in CASES],
    }
    target = pathlib.Path(__file__).with_name("momentum-methods-expected.json")
    target.write_text(json.dumps(facts) + "\n")
    for entry in facts["cases"]:
        worst = {part: max(each["float32Error"] for each in entry[part].values()) for part in ("gradients", "moved")}
        print(entry["method"]["name"], entry["family"], entry["losses"][0], entry["losses"][-1], entry["float32LossError"], worst)
    print(target.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
