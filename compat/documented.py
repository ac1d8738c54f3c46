"""Runs the Python lines of docs/formats.md verbatim, each beside the files that Paraffin made.

usage: python compat/documented.py WORK_DIR PAGE
"""
import os
import pathlib
import re
import shutil
import sys

import numpy as np
import torch
import real_torchvision  # noqa: F401  so that the lines find torchvision, whichever build of it is there

work_dir, page = (pathlib.Path(argument) for argument in sys.argv[1:3])
blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
assert len(blocks) == 3, f"{len(blocks)} examples"
folder = work_dir / "RESNET18"
shutil.copy(folder / "plain.safetensors", folder / "encoder.safetensors")
os.chdir(folder)
torch.manual_seed(1)
images = torch.randn(2, 3, 64, 64)
results = []
for block in blocks:
    scope = {"images": images}
    exec(compile(block, str(page), "exec"), scope)
    results.append(np.asarray(scope["embeddings"]))
for result in results:
    assert result.shape == (2, 512)
    assert np.abs(result - results[0]).max() / np.sqrt(np.square(results[0]).mean()) < 1e-4
