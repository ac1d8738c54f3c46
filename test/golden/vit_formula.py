"""Weights and images of the vision transformers from one small formula, the same as formula.ts beside: nothing large need be committed."""
import numpy as np
import torch
from formula import formula_images, noise


def formula_state(tensors):
    state = {}
    for name, tensor in tensors.items():
        shape = tuple(tensor.shape)
        values = noise(name, tensor.numel()).reshape(shape)
        if name.endswith(".weight") and len(shape) > 1:
            values = values * np.float32(np.sqrt(12 / np.prod(shape[1:])))
        elif name.endswith(".weight") or name.endswith(".gamma") or name.endswith(".lambda1"):
            values = 1 + values * np.float32(0.4)
        else:
            values = values * np.float32(0.4)
        state[name] = torch.from_numpy(np.ascontiguousarray(values))
    return state


def images(count, side):
    return torch.from_numpy(np.ascontiguousarray(formula_images(count, side, side)))
