"""The peer of bench/embedding.ts: ONNX Runtime with the exported file. Prints one JSON line.

  embedding_peer.py DIR BATCHES BATCH SIDE THREADS      embeds DIR/pixels with DIR/weights.onnx
"""
import json
import resource
import sys
import time

import numpy as np
import onnxruntime

MEAN, STD = np.float32([0.5, 0.5, 0.5]), np.float32([0.5, 0.5, 0.5])
folder = sys.argv[1]
batches, batch, side, threads = (int(value) for value in sys.argv[2:6])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(f"{folder}/weights.onnx", options, providers=["CPUExecutionProvider"])
pixels = np.fromfile(f"{folder}/pixels", np.uint8).reshape(batch, side, side, 3)


def embed():
    scaled = (pixels.astype(np.float32) / np.float32(255) - MEAN) / STD
    return session.run(["embeddings"], {"images": np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))})[0]


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


embeddings = embed()
cpu_before, started = cpu_seconds(), time.perf_counter()
for _ in range(batches):
    embed()
duration = time.perf_counter() - started
print(json.dumps({
    "imagesPerSecond": batches * batch / duration,
    "cpuMsPerImage": (cpu_seconds() - cpu_before) * 1000 / (batches * batch),
    "peakRssMb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "library": f"onnxruntime {onnxruntime.__version__}",
    "embedding": embeddings[0].astype(float).tolist(),
}))
