"""Tiles of a drawn slide as JPEG 2000 codestreams by OpenJPEG, as Aperio's scanners store them.

    python3 jpeg2000_tiles_oracle.py > jpeg2000-tiles-expected.json     # needs numpy and imagecodecs

The slide has 3 x 2 tiles of 256 px: tissue with a dark square, and glass in the last column. Compression 33005 holds
RGB, 33003 holds YCbCr (ITU-R BT.601, full range) without a colour transform of its own. Level 1 is a quarter as large.
"""

import base64
import json

import imagecodecs
import numpy as np

TILE = 256
WIDTH, HEIGHT = 3 * TILE, 2 * TILE
TISSUE, GLASS, DARK = (190, 110, 170), (242, 242, 242), (0, 0, 0)
SQUARE = {"left": 203, "top": 105, "side": 40}

level0 = np.full((HEIGHT, WIDTH, 3), GLASS, np.uint8)
level0[:, : 2 * TILE] = TISSUE
level0[SQUARE["top"] : SQUARE["top"] + SQUARE["side"], SQUARE["left"] : SQUARE["left"] + SQUARE["side"]] = DARK
level1 = level0.reshape(HEIGHT // 4, 4, WIDTH // 4, 4, 3).mean((1, 3)).round().astype(np.uint8)


def ycbcr(rgb):
    r, g, b = np.moveaxis(rgb.astype(np.float64), 2, 0)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    planes = [y, 128 + (b - y) / 1.772, 128 + (r - y) / 1.402]
    return np.clip(np.stack(planes, 2).round(), 0, 255).astype(np.uint8)


def tiles_of(level, convert):
    tiles = []
    for top in range(0, level.shape[0], TILE):
        for left in range(0, level.shape[1], TILE):
            part = level[top : top + TILE, left : left + TILE]
            tile = np.full((TILE, TILE, 3), 255, np.uint8)
            tile[: part.shape[0], : part.shape[1]] = part
            encoded = imagecodecs.jpeg2k_encode(
                convert(tile), level=0, reversible=True, codecformat="j2k", mct=False, colorspace="RGB"
            )
            tiles.append(base64.b64encode(encoded).decode())
    return tiles


print(
    json.dumps(
        {
            "madeWith": f"imagecodecs {imagecodecs.__version__}",
            "width": WIDTH,
            "height": HEIGHT,
            "square": SQUARE,
            "levels": {
                "33003": [tiles_of(level, ycbcr) for level in (level0, level1)],
                "33005": [tiles_of(level, lambda tile: tile) for level in (level0, level1)],
            },
        },
        indent=1,
    )
)
