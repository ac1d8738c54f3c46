"""Golden views, from torchvision and torch's grid_sample (made with torchvision 0.28, torch 2.13).

    python3 augment_oracle.py > augment-expected.json     # needs torch, torchvision and numpy
"""

import json

import numpy as np
import torch
import torch.nn.functional as nn

import encoder_oracle  # imports torchvision, also where its compiled part does not fit the torch build
import torchvision.transforms.functional as tv

SOURCE, VIEW = 24, 12


def source(n):
    """The same formula is in augment.test.ts."""
    y, x, c = np.meshgrid(np.arange(SOURCE), np.arange(SOURCE), np.arange(3), indexing="ij")
    pixels = (40 * n + 7 * y * (c + 1) + 11 * x + (x * y) % 17 * 5 + 60 * c) % 256
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None] / 255


def crop_view(image, left, top, width, height, flipped, turns):
    """Samples at view pixel centres of the crop with clamped borders, then mirrors, then turns counter-clockwise."""
    u = (np.arange(VIEW) + 0.5) / VIEW
    xs = (left + u * width) / SOURCE * 2 - 1
    ys = (top + u * height) / SOURCE * 2 - 1
    grid = torch.from_numpy(np.stack(np.meshgrid(xs, ys), -1).astype(np.float32))[None]
    view = nn.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if flipped:
        view = tv.hflip(view)
    return torch.rot90(view, turns, (2, 3))


def numbers(view):
    return [round(float(v), 5) for v in view[0].permute(1, 2, 0).flatten()]


GEOMETRIES = [
    (0, 0, 24, 24, False, 0),
    (3.25, 1.5, 12.75, 17.5, False, 0),
    (3.25, 1.5, 12.75, 17.5, True, 0),
    (3.25, 1.5, 12.75, 17.5, False, 1),
    (3.25, 1.5, 12.75, 17.5, True, 1),
    (10, 2, 6, 8, True, 2),
    (0.5, 15, 20, 9, False, 3),
]
views = [crop_view(source(n), *geometry) for n, geometry in enumerate(GEOMETRIES)]

COLOURS = [
    ("brightness", tv.adjust_brightness, [0.2, 1.0, 1.8]),
    ("contrast", tv.adjust_contrast, [0.2, 1.0, 1.8]),
    ("saturation", tv.adjust_saturation, [0.0, 0.7, 1.8]),
    ("hue", tv.adjust_hue, [-0.2, 0.0, 0.37]),
]
SIGMAS = [0.3, 0.0, 1.7]
KERNEL = 5
base = [crop_view(source(n), 0, 0, 24, 24, False, 0) for n in range(3)]


def whole(n, geometry, colour, grey, sigma):
    view = crop_view(source(n), *geometry)
    for op, adjust in (("hue", tv.adjust_hue), ("contrast", tv.adjust_contrast), ("saturation", tv.adjust_saturation), ("brightness", tv.adjust_brightness)):
        view = adjust(view, colour[op])
    if grey:
        view = tv.rgb_to_grayscale(view, 3)
    if sigma > 0:
        view = tv.gaussian_blur(view, [3, 3], [sigma, sigma])
    return tv.normalize(view, [0.5] * 3, [0.5] * 3)


WHOLES = [
    (0, (3.25, 1.5, 12.75, 17.5, True, 1), {"brightness": 1.3, "contrast": 0.6, "saturation": 1.5, "hue": 0.11}, False, 0.5),
    (1, (0.5, 15, 20, 9, False, 3), {"brightness": 0.8, "contrast": 1.4, "saturation": 0.4, "hue": -0.15}, True, 0.0),
]

print(
    json.dumps(
        {
            "geometries": [{"parameters": list(map(float, g)), "view": numbers(v)} for g, v in zip(GEOMETRIES, views)],
            "colours": [{"op": op, "factors": f, "views": [numbers(adjust(b, x)) for b, x in zip(base, f)]} for op, adjust, f in COLOURS],
            "grey": [numbers(tv.rgb_to_grayscale(b, 3)) for b in base],
            "solarised": [numbers(tv.solarize(b, 128 / 255)) for b in base],
            "blur": {
                "kernelSizePx": KERNEL,
                "sigmasPx": SIGMAS,
                "views": [numbers(tv.gaussian_blur(b, [KERNEL, KERNEL], [s, s]) if s > 0 else b) for b, s in zip(base, SIGMAS)],
            },
            "wholes": [
                {"geometry": list(map(float, g)), "colour": c, "grey": grey, "sigmaPx": s, "view": numbers(whole(n, g, c, grey, s))}
                for n, g, c, grey, s in WHOLES
            ],
        }
    )
)
