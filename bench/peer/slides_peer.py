"""Tissue and patches of one slide as a user's script gets them; prints one JSON document.

    python3 slides_peer.py TOOL SLIDE UM_PER_PX PATCH_PX PROCESSES FORMAT

TOOL openslide: openslide-python and Pillow. The tissue rule is ours (workers/imaging/slides/tissue.ts) in numpy and
scipy: two passes of Otsu's threshold on the spread of optical density at 8 um/px, an opening, and specks and holes
removed. Each patch of the grid with at least half tissue is read from the nearest finer level, averaged to its size,
encoded as FORMAT (jpeg at quality 80, or png at level 2), and appended to the file of its process.
TOOL tiatoolbox: the same places, each read by TIAToolbox's reader in units of um/px.
"""

import io
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time

import numpy as np
from PIL import Image
from scipy import ndimage

tool, path, um_per_px, patch_px, processes, image_format = (
    sys.argv[1],
    sys.argv[2],
    float(sys.argv[3]),
    int(sys.argv[4]),
    int(sys.argv[5]),
    sys.argv[6],
)
if tool == "tiatoolbox":
    from tiatoolbox.wsicore.wsireader import WSIReader
import openslide

OVERVIEW_UM = 8.0
AREA_MAX_UM2 = 40_000


def otsu(counts):
    """The bin that separates two classes with the greatest variance between them."""
    below = np.cumsum(counts)
    sums = np.cumsum(counts * np.arange(len(counts)))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return int(np.nanargmax(variance)) + 1


def tissue_on(overview):
    density = np.empty(overview.shape, np.float32)
    for channel in range(3):
        counts = np.bincount(overview[..., channel].ravel(), minlength=256)
        glass = 255 - int(np.argmax(counts[:189:-1]))
        table = np.maximum(0, -np.log10(np.minimum(1, (np.arange(256) + 1) / (glass + 1))))
        density[..., channel] = table[overview[..., channel]]
    spread = density.max(2) - density.min(2)
    counts = np.bincount(np.minimum(255, (spread.ravel() / 0.9 * 256).astype(int)), minlength=256).astype(float)
    second = otsu(counts[: otsu(counts)])
    stained = spread > min(0.1, max(0.035, second / 256 * 0.9))
    opened = ndimage.binary_opening(stained, np.ones((3, 3)))
    area_max = int(AREA_MAX_UM2 / OVERVIEW_UM**2)
    for value in (True, False):
        labels, _ = ndimage.label(opened == value)
        sizes = np.bincount(labels.ravel())
        opened[(sizes <= area_max)[labels] & (opened == value)] = not value
    return opened


def survey():
    with openslide.OpenSlide(path) as slide:
        um = float(slide.properties["openslide.mpp-x"])
        width, height = slide.dimensions
        factor = OVERVIEW_UM / um
        size = (max(1, int(width / factor)), max(1, int(height / factor)))
        level = slide.get_best_level_for_downsample(factor * 1.002)
        whole = slide.read_region((0, 0), level, slide.level_dimensions[level]).convert("RGB")
    tissue = tissue_on(np.asarray(whole.resize(size, Image.BOX)))
    integral = np.pad(tissue.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    side = patch_px * um_per_px / um
    places = []
    for row in range(int(height / side)):
        for column in range(int(width / side)):
            x, y = math.floor(column * side), math.floor(row * side)
            left, right = round(x / factor), min(size[0], round((x + side) / factor))
            top, bottom = round(y / factor), min(size[1], round((y + side) / factor))
            covered = integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left]
            if covered >= 0.5 * (right - left) * (bottom - top):
                places.append((x, y))
    return places, side


def begin(side, folder):
    global SLIDE, READER, LEVEL, LEVEL_SIDE, OUTPUT
    OUTPUT = open(os.path.join(folder, str(os.getpid())), "wb")
    if tool == "tiatoolbox":
        READER = WSIReader.open(path)
        return
    SLIDE = openslide.OpenSlide(path)
    LEVEL = SLIDE.get_best_level_for_downsample(side / patch_px * 1.002)
    LEVEL_SIDE = side / SLIDE.level_downsamples[LEVEL]


def patch_at(place):
    if tool == "tiatoolbox":
        size = (patch_px, patch_px)
        return Image.fromarray(READER.read_rect(place, size, resolution=um_per_px, units="mpp"))
    whole = math.ceil(LEVEL_SIDE)
    region = SLIDE.read_region(place, LEVEL, (whole, whole)).convert("RGB")
    if whole == patch_px:
        return region
    return region.resize((patch_px, patch_px), Image.BOX, box=(0, 0, LEVEL_SIDE, LEVEL_SIDE))


def cut(place):
    encoded = io.BytesIO()
    if image_format == "jpeg":
        patch_at(place).save(encoded, "JPEG", quality=80)
    else:
        patch_at(place).save(encoded, "PNG", compress_level=2)
    return OUTPUT.write(encoded.getbuffer())


if __name__ == "__main__":
    started = time.perf_counter()
    places, side = survey()
    surveyed = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        with multiprocessing.Pool(processes, begin, (side, folder)) as pool:
            byte_count = sum(pool.imap_unordered(cut, places, chunksize=16))
        ended = time.perf_counter()
    print(
        json.dumps(
            {
                "patchCount": len(places),
                "leftOutCount": 0,
                "surveySeconds": surveyed - started,
                "seconds": ended - started,
                "storedMegabytes": byte_count / 1e6,
            }
        )
    )
