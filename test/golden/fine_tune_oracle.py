"""Writes fine-tune-expected.json: an encoder and a classifier trained as one in PyTorch, for weights and images that both sides compute from one formula.

Run in an environment with torch, torchvision and numpy: python test/golden/fine_tune_oracle.py

Written from what evaluating.md says of FINE_TUNE: cross-entropy, stochastic gradient descent with momentum after Sutskever et al. 2013 (the rate
within the velocity), weight decay on weights alone, the classifier ten times as fast. In float64; next to it is PyTorch's own float32 error.
"""
import json
import pathlib

import numpy as np
import torch.nn.functional as F
from encoder_oracle import build, noise, torch, torchvision
from simclr_oracle import compared
from torch import nn

ARCHITECTURE, COUNT, SIDE, LABELS, STEPS = "RESNET18", 8, 48, 3, 4
MOMENTUM, WEIGHT_DECAY, CLASSIFIER_RATE = 0.9, 1e-4, 10
LEARNING_RATES = [0.0003, 0.0006, 0.0005, 0.0002]


def images(step, dtype):
    values = noise(f"fine-tuning {step}", COUNT * SIDE * SIDE * 3).reshape(COUNT, SIDE, SIDE, 3) * np.float32(4)
    return torch.from_numpy(values).permute(0, 3, 1, 2).contiguous().to(dtype)


def train(dtype):
    encoder = build(ARCHITECTURE)
    classifier = nn.Linear(encoder.inplanes, LABELS)
    classifier.weight.data = torch.from_numpy(noise("fc.weight", classifier.weight.numel()).reshape(tuple(classifier.weight.shape)) * np.float32(0.1))
    classifier.bias.data = torch.from_numpy(noise("fc.bias", LABELS) * np.float32(0.1))
    encoder, classifier = encoder.to(dtype).train(), classifier.to(dtype)
    named = [*((name, parameter, 1) for name, parameter in encoder.named_parameters()), *((f"fc.{name}", parameter, CLASSIFIER_RATE) for name, parameter in classifier.named_parameters())]
    begin = {name: parameter.detach().clone() for name, parameter, _ in named}
    velocities = {name: torch.zeros_like(parameter) for name, parameter, _ in named}
    losses = []
    for step, rate in enumerate(LEARNING_RATES):
        for _, parameter, _ in named:
            parameter.grad = None
        loss = F.cross_entropy(classifier(encoder(images(step, dtype))), torch.tensor([(image + step) % LABELS for image in range(COUNT)]))
        loss.backward()
        losses.append(float(loss.detach()))
        with torch.no_grad():
            for name, parameter, faster in named:
                gradient = parameter.grad + (WEIGHT_DECAY * parameter if parameter.dim() > 1 else 0)
                velocities[name] = MOMENTUM * velocities[name] - rate * faster * gradient
                parameter += velocities[name]
    encoder.eval()
    with torch.no_grad():
        probabilities = classifier(encoder(images(STEPS, dtype))).softmax(dim=1)
    moved = {name: parameter.detach() - begin[name] for name, parameter, _ in named}
    statistics = {name: tensor for name, tensor in encoder.state_dict().items() if "running" in name}
    return {"losses": losses, "moved": moved, "statistics": statistics, "probabilities": probabilities}


def main():
    torch.set_num_threads(2)
    exact, rough = train(torch.float64), train(torch.float32)
    facts = {
        "oracle": f"torch {torch.__version__}, torchvision {torchvision.__version__}",
        "architecture": ARCHITECTURE, "imageCount": COUNT, "imageSidePx": SIDE, "labelCount": LABELS, "learningRates": LEARNING_RATES,
        "losses": exact["losses"], "float32LossError": max(abs(a - b) for a, b in zip(exact["losses"], rough["losses"])),
        "probabilities": exact["probabilities"].flatten().tolist(),
        "moved": compared(exact["moved"], rough["moved"]), "statistics": compared(exact["statistics"], rough["statistics"]),
    }
    target = pathlib.Path(__file__).with_name("fine-tune-expected.json")
    target.write_text(json.dumps(facts) + "\n")
    print(facts["losses"], facts["float32LossError"])
    for part in ("moved", "statistics"):
        worst = max(facts[part], key=lambda name: facts[part][name]["float32Error"])
        print(part, worst, facts[part][worst]["float32Error"])


if __name__ == "__main__":
    main()
