"""Numbers that both the oracles and the tests compute from one formula, the same as `noise` of formula.ts beside, so that no weights are committed."""
import numpy as np


def fnv1a(text):
    value = 0x811C9DC5
    for character in text:
        value = ((value ^ ord(character)) * 0x01000193) & 0xFFFFFFFF
    return value


def noise(name, count):
    """Numbers in [-0.5, 0.5), a hash of the name and of the position."""
    mixed = (np.arange(count, dtype=np.uint64) * 0x9E3779B9 + fnv1a(name)).astype(np.uint32)
    mixed = ((mixed ^ (mixed >> 16)) * np.uint32(0x21F0AAAD)).astype(np.uint32)
    mixed = ((mixed ^ (mixed >> 15)) * np.uint32(0x735A2D97)).astype(np.uint32)
    mixed = mixed ^ (mixed >> 15)
    return (mixed.astype(np.float64) / 2**32 - 0.5).astype(np.float32)


def formula_images(count, height, width):
    """Numbers in [-2, 2), `[count, 3, height, width]`."""
    return (noise(f"images {height}x{width}", count * height * width * 3).reshape(count, height, width, 3) * np.float32(4)).transpose(0, 3, 1, 2)
