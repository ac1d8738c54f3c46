"""Files that NumPy itself writes (made with 2.4.6), and what it reads back.

    python3 npy_oracle.py > npy-expected.json     # needs numpy
"""

import base64
import io
import json

import numpy as np


def case(name, array):
    file = io.BytesIO()
    np.save(file, array)
    return {
        "name": name,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "values": array.ravel().tolist(),
        "bytes": base64.b64encode(file.getvalue()).decode(),
    }


def refused(name, array):
    file = io.BytesIO()
    np.save(file, array)
    return {"name": name, "bytes": base64.b64encode(file.getvalue()).decode()}


print(
    json.dumps(
        {
            "madeWith": f"numpy {np.__version__}",
            "cases": [
                case("embeddings", (np.arange(12, dtype=np.float32) / 8 - 0.75).reshape(3, 4)),
                case("one side", np.array([1.5, -2.25], dtype=np.float32)),
                case("no row", np.zeros((0, 512), dtype=np.float32)),
                case("many rows", np.zeros((12345, 1), dtype=np.uint8)[:0].reshape(0, 12345)),
                case("bytes", np.arange(6, dtype=np.uint8).reshape(2, 3)),
            ],
            "refused": [
                refused("float64", np.zeros(2)),
                refused("Fortran order", np.asfortranarray(np.zeros((2, 2), dtype=np.float32))),
            ],
        }
    )
)
