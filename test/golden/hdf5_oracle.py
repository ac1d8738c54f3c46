"""What h5py reads from the files that our writer makes.

    node hdf5_files.ts DIR && python3 hdf5_oracle.py DIR > hdf5-expected.json     # needs h5py

The test makes the same files again: bytes with the same sha256 are bytes that h5py has read.
"""

import hashlib
import json
import sys
from pathlib import Path

import h5py


def plain(value):
    return value if isinstance(value, str) else value.item()


def read(path):
    with h5py.File(path, "r") as file:
        return {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "arrays": [
                {
                    "name": name,
                    "dtype": str(array.dtype),
                    "shape": list(array.shape),
                    "values": array[:].ravel().tolist(),
                    "attributes": {
                        key: {"type": type(value).__name__, "value": plain(value)} for key, value in array.attrs.items()
                    },
                }
                for name, array in file.items()
            ],
        }


files = {path.stem: read(path) for path in sorted(Path(sys.argv[1]).glob("*.h5"))}
print(json.dumps({"madeWith": f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}", "files": files}))
