"""SimCLR in PyTorch, written apart from Paraffin's engine: the same recipe on the same images, for comparison.

Reads a job as JSON from standard input, trains, and writes the embeddings of every image as float32 `[N, D]` to the
job's `embeddingsPath`. The last line of standard output is a JSON object: losses by step, images per second.

The job: every field of a recipe (recipe.ts) and steps, warmupSteps, seed, pixelsPath (uint8 [N, S, S, 3], row by row),
imageCount (N), sizePx (S), trainCount (the first so many rows are pretrained on), embeddingsPath.

Only the distribution of the views is the same as Paraffin's: a crop of uniform area and log-uniform aspect, a flip,
quarter turns, colour jitter in one random order for the batch, grey, Gaussian blur in proportion to the view's size.
"""

import json
import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn


def random_views(images, side, job, generator):
    """Float views [N, 3, side, side] in 0..1 of images [N, 3, S, S] in 0..1."""
    count = len(images)

    def uniform(low, high, size=count):
        return torch.rand(size, generator=generator) * (high - low) + low

    width = torch.empty(count)
    height = torch.empty(count)
    pending = torch.arange(count)
    for _ in range(10):
        area = uniform(job["cropScaleMin"], job["cropScaleMax"], len(pending))
        aspect = torch.exp(uniform(math.log(3 / 4), math.log(4 / 3), len(pending)))
        w, h = torch.sqrt(area * aspect), torch.sqrt(area / aspect)
        fits = (w <= 1) & (h <= 1)
        width[pending[fits]], height[pending[fits]] = w[fits], h[fits]
        pending = pending[~fits]
        if len(pending) == 0:
            break
    width[pending] = height[pending] = 1.0
    left, top = torch.rand(count, generator=generator) * (1 - width), torch.rand(count, generator=generator) * (1 - height)
    # Affine maps from the view's [-1, 1] square to the crop's: a flip and a quarter turn first.
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    turn = torch.randint(0, 4, (count,), generator=generator).float() * (math.pi / 2)
    cos, sin = torch.cos(turn).round(), torch.sin(turn).round()
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = width * flip * cos, -width * flip * sin
    theta[:, 1, 0], theta[:, 1, 1] = height * sin, height * cos
    theta[:, 0, 2], theta[:, 1, 2] = 2 * left + width - 1, 2 * top + height - 1
    grid = F.affine_grid(theta, (count, 3, side, side), align_corners=False)
    views = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    strength = job["jitterStrength"]
    if strength > 0:
        applied = torch.rand(count, generator=generator) < 0.8

        def factors():
            drawn = uniform(max(0.0, 1 - 0.8 * strength), 1 + 0.8 * strength)
            return torch.where(applied, drawn, torch.ones(count)).view(-1, 1, 1, 1)

        hue = torch.where(applied, uniform(-0.2 * strength, 0.2 * strength), torch.zeros(count))
        for operation in torch.randperm(4, generator=generator).tolist():
            if operation == 0:
                views = (views * factors()).clamp(0, 1)
            elif operation == 1:
                mean = grey(views).mean(dim=(2, 3), keepdim=True)
                views = (mean + (views - mean) * factors()).clamp(0, 1)
            elif operation == 2:
                g = grey(views)
                views = (g + (views - g) * factors()).clamp(0, 1)
            else:
                views = shift_hue(views, hue)
    greyed = (torch.rand(count, generator=generator) < job["greyProbability"]).view(-1, 1, 1, 1)
    views = torch.where(greyed, grey(views).expand_as(views), views)
    if job["blurProbability"] > 0:
        blurred = torch.rand(count, generator=generator) < job["blurProbability"]
        sigma = uniform(0.1, 2.0) * side / 224
        radius = max(1, int(0.1 * side / 2))
        offsets = torch.arange(-radius, radius + 1).float()
        kernels = torch.exp(-(offsets[None] ** 2) / (2 * sigma[:, None] ** 2))
        kernels = kernels / kernels.sum(1, keepdim=True)
        kernels[~blurred] = (offsets == 0).float()
        flat = views.reshape(1, count * 3, side, side)
        k = kernels.repeat_interleave(3, 0)
        flat = F.pad(flat, (radius, radius, 0, 0), mode="reflect")
        flat = F.conv2d(flat, k.view(count * 3, 1, 1, -1), groups=count * 3)
        flat = F.pad(flat, (0, 0, radius, radius), mode="reflect")
        views = F.conv2d(flat, k.view(count * 3, 1, -1, 1), groups=count * 3).view(count, 3, side, side)
    return views


def grey(images):
    return (images * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def shift_hue(images, turns):
    """Adds `turns` to the hue of HSV, as torchvision's adjust_hue."""
    high, argmax = images.max(1)
    low = images.min(1).values
    span = high - low
    safe = torch.where(span == 0, torch.ones_like(span), span)
    r, g, b = images.unbind(1)
    hue = torch.where(argmax == 0, (g - b) / safe, torch.where(argmax == 1, 2 + (b - r) / safe, 4 + (r - g) / safe)) / 6
    hue = (torch.where(span == 0, torch.zeros_like(hue), hue) + turns.view(-1, 1, 1)) % 1.0
    saturation = torch.where(high == 0, torch.zeros_like(high), span / torch.where(high == 0, torch.ones_like(high), high))
    channels = []
    for n in (5.0, 3.0, 1.0):
        k = (n + hue * 6) % 6
        channels.append(high - high * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, 1)


def nt_xent(projections, temperature):
    """Mean over 2N; rows 0..N-1 are first views, N..2N-1 second views."""
    z = F.normalize(projections.float(), dim=1)
    count = len(z)
    similarity = z @ z.T / temperature
    similarity.fill_diagonal_(float("-inf"))
    targets = torch.arange(count).roll(count // 2)
    return F.cross_entropy(similarity, targets)


class Lars(torch.optim.Optimizer):
    """You et al. 2017, as SimCLR uses it: no decay and no trust ratio for biases and batch norms."""

    def __init__(self, params, lr, momentum=0.9, weight_decay=1e-6):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                gradient, trust = p.grad, 1.0
                if p.ndim > 1:
                    gradient = gradient + group["weight_decay"] * p
                    w, g = p.norm(), gradient.norm()
                    if w > 0 and g > 0:
                        trust = float(0.001 * w / g)
                v = self.state[p].setdefault("v", torch.zeros_like(p))
                v.mul_(group["momentum"]).sub_(gradient, alpha=group["lr"] * trust)
                p.add_(v)


def optimizer_of(job, modules):
    decayed = [p for m in modules for p in m.parameters() if p.ndim > 1]
    rest = [p for m in modules for p in m.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": job["weightDecay"]}, {"params": rest, "weight_decay": 0.0}]
    rate = job["learningRate"]
    kind = job["optimizer"]["name"]
    if kind == "LARS":
        return Lars(groups, rate)
    if kind == "SGD":
        return torch.optim.SGD(groups, rate, momentum=0.9)
    if kind == "ADAM":
        return torch.optim.Adam(groups, rate)
    if kind == "ADAMW":
        return torch.optim.AdamW(groups, rate)
    raise ValueError(f"optimizer {kind} is unknown")


def main():
    job = json.load(sys.stdin)
    torch.manual_seed(job["seed"])
    generator = torch.Generator().manual_seed(job["seed"])
    size, side, batch = job["sizePx"], job["viewSizePx"], job["batchSize"]
    raw = np.fromfile(job["pixelsPath"], dtype=np.uint8).reshape(job["imageCount"], size, size, 3)
    pixels = torch.from_numpy(raw)

    encoder = torchvision.models.resnet18(weights=None)
    width = encoder.fc.in_features
    encoder.fc = nn.Identity()
    hidden = job["headWidth"] or width
    layers = []
    for _ in range(job["headDepth"] - 1):
        layers += [nn.Linear(width if not layers else hidden, hidden), nn.ReLU()]
    head = nn.Sequential(*layers, nn.Linear(hidden if layers else width, job["projectionDim"]))
    encoder = encoder.to(memory_format=torch.channels_last)
    optimizer = optimizer_of(job, [encoder, head])
    dtype = torch.bfloat16 if job["precision"] == "BFLOAT16" else torch.float32

    def run(views):
        views = (views * 2 - 1).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            return encoder(views).float()

    losses, order, started = [], torch.empty(0, dtype=torch.long), time.perf_counter()
    for step in range(job["steps"]):
        if len(order) < batch:
            order = torch.cat([order, torch.randperm(job["trainCount"], generator=generator)])
        rows, order = order[:batch], order[batch:]
        warmup = job["warmupSteps"]
        if step < warmup:
            rate = job["learningRate"] * (step + 1) / warmup
        else:
            rate = job["learningRate"] * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, job["steps"] - warmup)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        images = pixels[rows].permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            views = torch.cat([random_views(images, side, job, generator) for _ in range(2)])
        loss = nt_xent(head(run(views)), job["temperature"])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(round(float(loss), 4))
        if not math.isfinite(losses[-1]):
            break
        if step % 20 == 0:
            print(step, losses[-1], file=sys.stderr, flush=True)
    seconds = time.perf_counter() - started

    with torch.no_grad():
        if job["batchNorm"] == "RECALIBRATED":
            encoder.train()
            for module in encoder.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.reset_running_stats()
                    module.momentum = None
            for start in range(0, min(job["trainCount"], 4000), 250):
                run(embed_input(pixels[start : start + 250], job["evaluationSizePx"]))
        encoder.eval()
        embeddings = [
            run(embed_input(pixels[start : start + 250], job["evaluationSizePx"])).numpy()
            for start in range(0, job["imageCount"], 250)
        ]
    np.concatenate(embeddings).astype(np.float32).tofile(job["embeddingsPath"])
    print(json.dumps({"losses": losses, "imagesPerSecond": batch * len(losses) / seconds, "embeddingDim": width}))


def embed_input(rows, side):
    images = rows.permute(0, 3, 1, 2).float() / 255
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


if __name__ == "__main__":
    main()
