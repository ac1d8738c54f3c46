"""
The peer of bench/reading.ts: shuffled batches of a folder of WebDataset shards by torch's DataLoader. Each worker streams
its shards in random order, as the webdataset package does, and mixes images in a shuffle buffer; Pillow decodes, at a
reduced size where the JPEG allows it.

  reading_peer.py FOLDER SIDE BATCH BATCHES WORKERS
"""
import io
import json
import os
import pathlib
import random
import sys
import tarfile
import time

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

BUFFER = 1000


def decoded(encoded, side):
    image = Image.open(io.BytesIO(encoded))
    image.draft("RGB", (side, side))
    image = image.convert("RGB")
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return torch.from_numpy(np.array(image.crop((left, top, left + side, top + side))))


class Shards(IterableDataset):
    def __init__(self, folder, side):
        self.shards = sorted(map(str, pathlib.Path(folder).glob("*.tar")))
        self.side = side

    def encoded(self, shards):
        for shard in shards:
            with tarfile.open(shard, "r|") as archive:
                for member in archive:
                    if not member.name.endswith(".json"):
                        yield archive.extractfile(member).read()

    def __iter__(self):
        worker = get_worker_info()
        generator = random.Random(worker.id)
        epoch = 0
        while True:
            shards = list(self.shards)
            random.Random(epoch).shuffle(shards)
            epoch += 1
            buffer = []
            for encoded in self.encoded(shards[worker.id :: worker.num_workers]):
                if len(buffer) < BUFFER:
                    buffer.append(encoded)
                    continue
                place = generator.randrange(BUFFER)
                yield decoded(buffer[place], self.side)
                buffer[place] = encoded
            generator.shuffle(buffer)
            for encoded in buffer:
                yield decoded(encoded, self.side)


def cpu_seconds(batches):
    """Of this process and its workers."""
    seconds = sum(os.times()[:2])
    for worker in batches._workers:
        fields = pathlib.Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


folder, side, batch_size, batch_count, workers = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(1)
started = time.perf_counter()
batches = iter(DataLoader(Shards(folder, side), batch_size=batch_size, num_workers=workers, prefetch_factor=3))
next(batches)
first = time.perf_counter()
first_cpu = cpu_seconds(batches)
total = 0
for index in range(batch_count):
    total += int(next(batches).view(-1)[index])
ended = time.perf_counter()
ended_cpu = cpu_seconds(batches)
print(json.dumps({
    "imagesPerSecond": batch_count * batch_size / (ended - first),
    "cpuMsPerImage": (ended_cpu - first_cpu) * 1000 / (batch_count * batch_size),
    "firstBatchMs": (first - started) * 1000,
    "pixelSum": total,
}))
