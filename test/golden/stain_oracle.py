"""Stain normalisation by torchstain and HistomicsTK, and stain jitter by scikit-image, on images of a formula.

    python3 stain_oracle.py > stain-expected.json     # needs numpy, torchstain, scikit-image and histomicstk

The images are also made by stain.test.ts; their digests are compared.
"""

import base64
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np

# HistomicsTK's packages import a reader of slides, which these functions do not need.
folder = Path(importlib.util.find_spec("histomicstk").origin).parent
for name in ("histomicstk", "histomicstk.preprocessing", "histomicstk.preprocessing.color_normalization", "histomicstk.utils"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(folder.joinpath(*name.split(".")[1:]))]

from histomicstk.preprocessing.color_conversion import lab_mean_std
from histomicstk.preprocessing.color_normalization.reinhard import reinhard
from skimage.color import combine_stains, hed_from_rgb, rgb_from_hed, separate_stains
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

SIDE = 64


def image(first, second, scale):
    """Two stains whose amounts vary over the image, on glass; 8-bit RGB by integers only."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    a = (x * 7 + y * 3) % 61
    b = (x * 5 + y * 11 + (x * y) % 13) % 53
    glass = (x < 8) | (y < 4)
    channels = []
    for channel in range(3):
        value = 240 - (a * first[channel] + b * second[channel]) * scale // 10000
        channels.append(np.where(glass, 243 + channel, np.clip(value, 2, 255)))
    return np.stack(channels, -1).astype(np.uint8)


IMAGES = {
    "pale": image((110, 150, 60), (30, 170, 90), 80),
    "strong": image((170, 190, 70), (60, 200, 150), 100),
}


def macenko(pixels):
    return NumpyMacenkoNormalizer().normalize(I=pixels, stains=False)[0]


# Of TCGA-A2-A3XS-DX1 (Amgad et al. 2019), as in HistomicsTK's own tests.
TARGET = {"mu": np.array([8.74108109, -0.12440419, 0.0444982]), "sigma": np.array([0.6135447, 0.10989545, 0.0286032])}


def reinhard_of(pixels):
    density = -np.log((pixels.astype(float) + 1) / 240)
    glass = np.any(density < 0.15, axis=2)
    mu, sigma = lab_mean_std(pixels, mask_out=glass)
    return reinhard(pixels, TARGET["mu"], TARGET["sigma"], src_mu=mu, src_sigma=sigma)


JITTERS = [
    {"factors": [1.2, 0.9, 1.0], "shifts": [0.0, 0.0, 0.0]},
    {"factors": [1.0, 1.0, 1.0], "shifts": [0.05, 0.1, 0.02]},
    {"factors": [0.8, 1.15, 1.1], "shifts": [0.1, -0.05, 0.03]},
]
# Amounts of stain that are positive, because scikit-image cuts negative ones off.
AMOUNTS = np.array([[0.6 + 0.02 * i, 0.5 + 0.013 * ((i * 7) % 16), 0.2 + 0.01 * ((i * 5) % 16)] for i in range(16)])
UNIT = -np.log(1e-6)


def jittered(jitter):
    """Amounts in natural optical density; scikit-image's unit is 1 / UNIT of it."""
    pixels = combine_stains(AMOUNTS.reshape(4, 4, 3) / UNIT, rgb_from_hed)
    stains = separate_stains(pixels, hed_from_rgb) * np.array(jitter["factors"]) + np.array(jitter["shifts"]) / UNIT
    return pixels, combine_stains(stains, rgb_from_hed)


def numbers(array):
    return [round(float(value), 7) for value in np.asarray(array).ravel()]


print(
    json.dumps(
        {
            "madeWith": ", ".join(
                f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "torchstain", "histomicstk", "scikit-image")
            ),
            "images": [
                {
                    "name": name,
                    "sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
                    "macenko": base64.b64encode(macenko(pixels).tobytes()).decode(),
                    "reinhard": base64.b64encode(reinhard_of(pixels).tobytes()).decode(),
                }
                for name, pixels in IMAGES.items()
            ],
            "jitters": [{**each, "pixels": numbers(jittered(each)[0]), "expected": numbers(jittered(each)[1])} for each in JITTERS],
        }
    )
)
