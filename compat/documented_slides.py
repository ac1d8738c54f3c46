"""Runs the script of docs/slides.md on features that Paraffin wrote, as it stands: documented_slides.py FOLDER PAGE.

FOLDER holds features/*.h5 and slides.csv as slide-features-sample.ts makes them.
"""
import os
import re
import sys

import h5py
import numpy as np
import torch

folder, page = sys.argv[1:3]
with open(page, encoding="utf-8") as file:
    (script,) = re.findall(r"```python\n(.*?)```", file.read(), re.DOTALL)
os.chdir(folder)
torch.manual_seed(1)
torch.set_num_threads(1)
scope = {}
exec(compile(script, page, "exec"), scope)

bags, model, losses = scope["bags"], scope["model"], scope["losses"]
assert [path.stem for path in bags.files] == ["S1", "S2", "Schnitt ü"], bags.files
assert bags.names == ["normal", "tumour"] and [bags[index][1] for index in range(3)] == [1, 0, 1]
starts, counts = [0, 300, 302], [300, 2, 70]
for index, (start, count) in enumerate(zip(starts, counts)):
    rows = np.arange(start, start + count)
    expected = (rows[:, None] + np.arange(24)[None] / 100).astype(np.float32)
    assert np.array_equal(bags[index][0].numpy(), expected)
    with h5py.File(bags.files[index]) as file:
        coords = file["coords"]
        assert np.array_equal(coords[:], np.stack([rows * 512, rows * 1024], 1)) and coords.dtype == np.int64
        # What TRIDENT's readers of coordinates ask for.
        found = {name: coords.attrs[name] for name in ("patch_size", "patch_size_level0", "level0_magnification")}
        assert found == {"patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40}, found
        assert coords.attrs["name"] == bags.files[index].stem and coords.attrs["microns_per_pixel"] == 0.5
        assert file["features"].attrs["encoder"] == "colon@1"
assert len(losses) == 3 and all(np.isfinite(losses)), losses
logits, attention = model(bags[0][0])
assert logits.shape == (2,) and attention.shape == (300, 1) and abs(attention.sum().item() - 1) < 1e-4
first = torch.nn.functional.cross_entropy(logits[None], torch.tensor([1])).item()
assert first < losses[0], f"the step did not learn: {first} after {losses[0]}"
