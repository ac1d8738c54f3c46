"""The peers of bench/weights.ts, and the files that both sides read. Prints one JSON line.

  weights_peer.py make DIR                 lightning.ckpt and weights.safetensors of a ResNet-50
  weights_peer.py import FILE              torch.load, which runs the file's code; the encoder's tensors; safetensors' save_file
  weights_peer.py load FILE REPEATS        a plain read, safetensors' load_file, and load_file with every page touched, in turn
  weights_peer.py onnx-stored DIR SHARD SIDE BATCH THREADS      every image of a shard, decoded and resized by Pillow, by ONNX Runtime
"""
import json
import pathlib
import resource
import sys
import time

import numpy as np

MEAN, STD = np.float32([0.5, 0.5, 0.5]), np.float32([0.5, 0.5, 0.5])


def timed(work):
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def torchvision():
    sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "compat"))
    from real_torchvision import torchvision as module

    return module


class Callback:
    best_model_path = "epoch=9.ckpt"


def make(folder):
    import safetensors.torch
    import torch

    torch.manual_seed(1)
    target = pathlib.Path(folder)
    model = torchvision().models.resnet50()
    model.fc = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(2048, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 128))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    optimizer.step()
    state = model.state_dict()
    torch.save({
        "epoch": 9, "global_step": 1000, "pytorch-lightning_version": "1.0.4",
        "state_dict": {f"model.resnet.{name}": tensor for name, tensor in state.items()},
        "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [], "callbacks": {Callback: Callback()}, "hyper_parameters": {"lr": 0.3},
    }, target / "lightning.ckpt")
    safetensors.torch.save_file({name: tensor for name, tensor in state.items() if not name.startswith("fc.")}, target / "weights.safetensors")
    return {"torch": torch.__version__}


def import_file(file):
    import safetensors.torch
    import torch

    def work():
        state = torch.load(file, weights_only=False)["state_dict"]
        prefix = "model.resnet."
        encoder = {name[len(prefix):]: tensor for name, tensor in state.items() if not name.startswith(f"{prefix}fc.")}
        safetensors.torch.save_file(encoder, f"{file}.safetensors")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    durations = [timed(work)]
    return {"durationsMs": durations, "peakGrowthBytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024}


def load(file, repeats):
    import safetensors.torch
    import torch  # noqa: F401  loaded before the clock runs

    def touched():
        sum(float(tensor.reshape(-1)[:: 1024 if tensor.numel() > 1024 else 1].sum()) for tensor in safetensors.torch.load_file(file).values())

    rounds = [(timed(lambda: pathlib.Path(file).read_bytes()), timed(lambda: safetensors.torch.load_file(file)), timed(touched)) for _ in range(int(repeats) + 1)][1:]
    return {"readMs": [each[0] for each in rounds], "loadMs": [each[1] for each in rounds], "loadTouchedMs": [each[2] for each in rounds]}


def onnx_session(file, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def run_onnx(session, pixels):
    scaled = (pixels.astype(np.float32) / np.float32(255) - MEAN) / STD
    return session.run(["embeddings"], {"images": np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))})[0]


def embed_stored_onnx(folder, shard, side, batch, threads):
    """Threads decode the next batch while the network embeds the one before, as ours does."""
    import concurrent.futures
    import io
    import tarfile

    import onnxruntime
    import PIL
    from PIL import Image

    side, batch, threads = int(side), int(batch), int(threads)
    session = onnx_session(f"{folder}/resnet18.onnx", threads)

    def decode(member):
        with open(shard, "rb") as file:
            file.seek(member.offset_data)
            image = Image.open(io.BytesIO(file.read(member.size))).convert("RGB")
        return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))

    run_onnx(session, np.zeros((batch, side, side, 3), np.uint8))
    with tarfile.open(shard) as archive:
        members = [member for member in archive if not member.name.endswith(".json")]
    cpu_before = cpu_seconds()
    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        begin = lambda first: [pool.submit(decode, member) for member in members[first:first + batch]]
        decoding = begin(0)
        for first in range(0, len(members), batch):
            pixels = np.stack([each.result() for each in decoding])
            decoding = begin(first + batch)
            run_onnx(session, pixels)
    duration = time.perf_counter() - started
    return {
        "imagesPerSecond": len(members) / duration,
        "cpuMsPerImage": (cpu_seconds() - cpu_before) * 1000 / len(members),
        "library": f"onnxruntime {onnxruntime.__version__}, Pillow {PIL.__version__}",
    }


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


commands = {"make": make, "import": import_file, "load": load, "onnx-stored": embed_stored_onnx}
print(json.dumps(commands[sys.argv[1]](*sys.argv[2:])))
