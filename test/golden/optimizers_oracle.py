"""Writes optimizers-expected.json: ten steps of each optimizer by PyTorch (LARS, which PyTorch lacks, by its formula), in float64.

Run in an environment with torch, torchvision and numpy: python test/golden/optimizers_oracle.py

Weights are decayed; biases and batch norms are not, which parameter groups express in PyTorch.
"""
import json
import pathlib

import numpy as np
from encoder_oracle import noise, torch

STEPS = 10
# Name, role, how many numbers, and what they are multiplied by: one weight is all zero.
PARAMETERS = [("conv.weight", "WEIGHT", 40, 1.0), ("bn.weight", "BIAS_OR_NORM", 8, 1.0), ("zero.weight", "WEIGHT", 6, 0.0), ("fc.bias", "BIAS_OR_NORM", 5, 0.1)]
# Decays far above what trainings use, so that a missing or a duplicated one is seen; an epsilon that weighs as much as the gradients.
CASES = [
    {"name": "LARS", "momentum": 0.9, "weightDecay": 0.01},
    {"name": "SGD", "momentum": 0, "nesterov": False, "weightDecay": 0.01},
    {"name": "SGD", "momentum": 0.9, "nesterov": False, "weightDecay": 0.01},
    {"name": "SGD", "momentum": 0.9, "nesterov": True, "weightDecay": 0.01},
    {"name": "ADAM", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weightDecay": 0.01},
    {"name": "ADAM", "beta1": 0.5, "beta2": 0.9, "epsilon": 0.1, "weightDecay": 0},
    {"name": "ADAMW", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weightDecay": 0.5},
    {"name": "ADAMW", "beta1": 0.5, "beta2": 0.9, "epsilon": 0.1, "weightDecay": 0},
]
RATES = {"LARS": 0.5, "SGD": 0.05, "ADAM": 0.01, "ADAMW": 0.01}


def learning_rate(case, step):
    return RATES[case["name"]] * (1 + 0.3 * step)


def gradient(name, step, count):
    """Every third gradient is a hundredth of the others, so that the state of an optimizer outweighs the gradient."""
    return noise(f"gradient {name} {step}", count) * np.float32(0.01 if step % 3 == 2 else 1)


class Lars(torch.optim.Optimizer):
    """Chen et al.'s reference code (`lars_optimizer.py`, classic momentum)."""

    def __init__(self, groups, momentum):
        super().__init__(groups, {"lr": 0.0, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for value in group["params"]:
                decayed, trust = value.grad + group["weight_decay"] * value, 1.0
                if group["adapts"] and value.norm() > 0 and decayed.norm() > 0:
                    trust = 0.001 * value.norm() / decayed.norm()
                velocity = self.state[value].get("velocity", torch.zeros_like(value))
                self.state[value]["velocity"] = group["momentum"] * velocity + group["lr"] * trust * decayed
                value -= self.state[value]["velocity"]


def optimizer_of(case, groups):
    if case["name"] == "LARS":
        return Lars(groups, case["momentum"])
    if case["name"] == "SGD":
        return torch.optim.SGD(groups, lr=0.0, momentum=case["momentum"], nesterov=case["nesterov"])
    kind = torch.optim.Adam if case["name"] == "ADAM" else torch.optim.AdamW
    return kind(groups, lr=0.0, betas=(case["beta1"], case["beta2"]), eps=case["epsilon"])


def run(case):
    values = {name: torch.from_numpy(noise(name, count) * np.float32(scale)).double().requires_grad_() for name, _, count, scale in PARAMETERS}
    of_role = lambda wanted: [values[name] for name, role, _, _ in PARAMETERS if role == wanted]
    groups = [{"params": of_role("WEIGHT"), "weight_decay": case["weightDecay"], "adapts": True}, {"params": of_role("BIAS_OR_NORM"), "weight_decay": 0.0, "adapts": False}]
    optimizer, steps = optimizer_of(case, groups), []
    for step in range(STEPS):
        for name, _, count, _ in PARAMETERS:
            values[name].grad = torch.from_numpy(gradient(name, step, count)).double()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(case, step)
        optimizer.step()
        steps.append({name: [float(f"{v:.9g}") for v in value.detach().tolist()] for name, value in values.items()})
    return {"optimizer": case, "learningRates": [learning_rate(case, step) for step in range(STEPS)], "steps": steps}


def main():
    torch.set_num_threads(1)
    facts = {"oracle": f"torch {torch.__version__}", "parameters": [{"name": name, "role": role, "count": count, "scale": scale} for name, role, count, scale in PARAMETERS], "cases": [run(case) for case in CASES]}
    target = pathlib.Path(__file__).with_name("optimizers-expected.json")
    target.write_text(json.dumps(facts) + "\n")
    print(target.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
