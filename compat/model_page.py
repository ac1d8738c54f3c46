"""Runs the Python that a model's page offers to copy, verbatim, on the first of the shared images.

usage: python compat/model_page.py WORK_DIR ENCODER

Reads   WORK_DIR/<encoder>/model_page.txt          the code
        WORK_DIR/<encoder>/plain.safetensors       as Paraffin serves the weights
        WORK_DIR/<encoder>/engine-plain-224.f32    the embeddings that Paraffin's engine computes
"""
import os
import pathlib
import shutil
import sys

import numpy as np
import torch
from PIL import Image
import real_torchvision  # noqa: F401  so that the code finds torchvision, whichever build of it is there

SIZE_PX = 224
folder = pathlib.Path(sys.argv[1]) / sys.argv[2]
pixels = np.fromfile(folder.parent / f"images-{SIZE_PX}.u8", dtype=np.uint8).reshape(-1, SIZE_PX, SIZE_PX, 3)
expected = np.fromfile(folder / f"engine-plain-{SIZE_PX}.f32", dtype="<f4").reshape(len(pixels), -1)[0]
os.chdir(folder)
Image.fromarray(pixels[0]).save("image.png")
shutil.copy("plain.safetensors", "encoder.safetensors")
scope = {}
exec(compile(pathlib.Path("model_page.txt").read_text(), "model_page.txt", "exec"), scope)
embedding = scope["embedding"]
assert embedding.shape == torch.Size([1, expected.size])
difference = np.abs(embedding.numpy()[0] - expected).max() / np.sqrt(np.square(expected).mean())
assert difference < 1e-4, difference
