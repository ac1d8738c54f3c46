"""One measurement of a whole SimCLR step in PyTorch, for bench/training.ts: prints one JSON line.

Arguments: architecture, side of the views in px, side of the images in px, images, steps, float32 or bfloat16, threads.

Written from the papers, with nothing of ours: two views of each image (crop, turn, mirror, colour jitter, grey, blur, each one op over the whole batch),
torchvision's ResNet-18 or 50, or timm's ViT-S/16, written out so that the peer needs nothing but torch, channels-last, projection head, NT-Xent, and LARS by
foreach ops (PyTorch's fused AdamW for the ViT).
bfloat16 is autocast over the encoder.
"""
import json
import math
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

WARMUP_STEPS = 2
architecture, precision = sys.argv[1], sys.argv[6]
side, source_side, count, steps, threads = (int(sys.argv[place]) for place in (2, 3, 4, 5, 7))
autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
torch.set_num_threads(threads)
torch.manual_seed(1)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, x):
        kept = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + kept)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(inputs, 4 * width, stride)

    def forward(self, x):
        kept = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + kept)


def shortcut(inputs, outputs, stride):
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        n, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """ViT-S/16. Position embeddings are those of the views' own grid; ours are resampled from 224 px."""

    def __init__(self, width=384, depth=12, heads=6):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 1 + (side // 16) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.norm(self.blocks(x)[:, 0])


def encoder():
    if architecture == "VIT_S16":
        return VisionTransformer().train(), 384
    block, depths = (BasicBlock, (2, 2, 2, 2)) if architecture == "RESNET18" else (Bottleneck, (3, 4, 6, 3))
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, (width, depth) in enumerate(zip((64, 128, 256, 512), depths)):
        for index in range(depth):
            layers.append(block(inputs, width, 2 if stage > 0 and index == 0 else 1))
            inputs = width * block.expansion
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model.to(memory_format=torch.channels_last).train(), inputs


def uniform(shape, low, high):
    return torch.rand(shape) * (high - low) + low


def blend(images, other, factors):
    return (factors * images + (1 - factors) * other).clamp(0, 1)


def grey(images):
    weights = torch.tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def shift_hue(images, turns):
    red, green, blue = images.unbind(1)
    top, bottom = images.amax(1), images.amin(1)
    span = top - bottom
    divisor = torch.where(span == 0, 1.0, span)
    hue = torch.where(top == red, (green - blue) / divisor, torch.where(top == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)) / 6
    hue = (hue + turns) % 1.0
    saturation = torch.where(top == 0, 0.0, span / torch.where(top == 0, 1.0, top))
    channels = [top - top * saturation * (torch.minimum(k, 4 - k).clamp(0, 1)) for k in ((n + hue * 6) % 6 for n in (5, 3, 1))]
    return torch.stack(channels, 1)


def view(images):
    n = len(images)
    area, ratio = uniform(n, 0.08, 1), torch.exp(uniform(n, math.log(3 / 4), math.log(4 / 3)))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    left, top = torch.rand(n) * (1 - width), torch.rand(n) * (1 - height)
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    angle = torch.randint(0, 4, (n,)) * (math.pi / 2)
    cos, sin = angle.cos().round(), angle.sin().round()
    theta = torch.stack([
        torch.stack([width * mirror * cos, -width * mirror * sin, 2 * left + width - 1], 1),
        torch.stack([height * sin, height * cos, 2 * top + height - 1], 1),
    ], 1)
    x = F.grid_sample(images, F.affine_grid(theta, (n, 3, side, side), align_corners=False), padding_mode="border", align_corners=False)
    jittered = x
    by = lambda low, high: uniform((n, 1, 1, 1), low, high)
    for place in torch.randperm(4).tolist():
        if place == 0:
            jittered = (jittered * by(0.2, 1.8)).clamp(0, 1)
        elif place == 1:
            jittered = blend(jittered, grey(jittered).mean((1, 2, 3), keepdim=True), by(0.2, 1.8))
        elif place == 2:
            jittered = blend(jittered, grey(jittered), by(0.2, 1.8))
        else:
            jittered = shift_hue(jittered, uniform((n, 1, 1), -0.2, 0.2))
    x = torch.where(torch.rand(n, 1, 1, 1) < 0.8, jittered, x)
    x = torch.where(torch.rand(n, 1, 1, 1) < 0.2, grey(x).expand_as(x), x)
    size = side // 10 // 2 * 2 + 1
    offsets = torch.arange(size) - size // 2
    kernels = torch.exp(-(offsets**2) / (2 * uniform((n, 1), 0.1, 2) ** 2))
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, 0)
    blurred = F.pad(x, [size // 2] * 4, mode="reflect").reshape(1, 3 * n, side + size - 1, side + size - 1)
    blurred = F.conv2d(F.conv2d(blurred, kernels.view(3 * n, 1, 1, size), groups=3 * n), kernels.view(3 * n, 1, size, 1), groups=3 * n).view(n, 3, side, side)
    return torch.where(torch.rand(n, 1, 1, 1) < 0.5, blurred, x) * 2 - 1


def nt_xent(projections):
    z = F.normalize(projections, dim=1)
    similarity = (z @ z.T / 0.5).fill_diagonal_(-math.inf)
    return F.cross_entropy(similarity, torch.arange(len(z)).roll(len(z) // 2))


def lars(weights, others, velocities, rate):
    """Chen et al. 2020: trust 0.001 |w| / |g| for weights, plain momentum for biases and norms."""
    decayed = torch._foreach_add([w.grad for w in weights], weights, alpha=1e-6)
    lengths = torch.stack(torch._foreach_norm(weights)) / torch.stack(torch._foreach_norm(decayed))
    torch._foreach_mul_(decayed, (rate * 0.001 * lengths).tolist())
    gradients = decayed + torch._foreach_mul([o.grad for o in others], rate)
    torch._foreach_mul_(velocities, 0.9)
    torch._foreach_add_(velocities, gradients)
    torch._foreach_sub_(weights + others, velocities)


model, dim = encoder()
head = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 128))
parameters = [*model.parameters(), *head.parameters()]
weights, others = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
velocities = [torch.zeros_like(p) for p in weights + others]
adamw = torch.optim.AdamW([{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1e-4, fused=True) if architecture == "VIT_S16" else None
pixels = torch.randint(0, 256, (count, source_side, source_side, 3), dtype=torch.uint8)

step_durations, view_durations, cpu_durations = [], [], []
for step in range(WARMUP_STEPS + steps):
    started, cpu_started = time.perf_counter(), time.process_time()
    with torch.no_grad():
        images = pixels.permute(0, 3, 1, 2).float() / 255
        views = torch.cat([view(images), view(images)]).contiguous(memory_format=torch.channels_last)
    made = time.perf_counter()
    for parameter in parameters:
        parameter.grad = None
    with autocast:
        embeddings = model(views)
    loss = nt_xent(head(embeddings.float()))
    loss.backward()
    if adamw is not None:
        adamw.step()
    else:
        with torch.no_grad():
            lars(weights, others, velocities, 0.3)
    loss.item()
    if step >= WARMUP_STEPS:
        step_durations.append((time.perf_counter() - started) * 1000)
        view_durations.append((made - started) * 1000)
        cpu_durations.append((time.process_time() - cpu_started) * 1000)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"durationsMs": step_durations, "viewsMs": view_durations, "cpuMs": cpu_durations, "peakRssMb": peak, "library": f"PyTorch {torch.__version__}", "device": "CPU"}))
