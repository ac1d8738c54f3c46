"""One measurement of PyTorch's training step, for bench/training.ts: prints one JSON line. Arguments: image side in px, batch size, steps, float32 or bfloat16, threads.

ResNet-18 as torchvision's, written out so that the peer needs nothing but torch; channels-last, forward, backward and SGD with momentum; bfloat16 is autocast.
"""
import json
import resource
import sys
import time

import torch
from torch import nn

WARMUP_STEPS = 3
side, batch, steps, threads = (int(sys.argv[place]) for place in (1, 2, 3, 5))
autocast = torch.autocast("cpu", torch.bfloat16, enabled=sys.argv[4] == "bfloat16")
torch.set_num_threads(threads)
torch.manual_seed(1)


class BasicBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
inputs = 64
for stage, width in enumerate((64, 128, 256, 512)):
    for index in range(2):
        layers.append(BasicBlock(inputs, width, 2 if stage > 0 and index == 0 else 1))
        inputs = width
layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
model = nn.Sequential(*layers)
for module in model.modules():
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
model = model.to(memory_format=torch.channels_last).train()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
images = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)

durations = []
for step in range(WARMUP_STEPS + steps):
    started = time.perf_counter()
    optimizer.zero_grad()
    with autocast:
        embeddings = model(images)
    embeddings.float().square().mean().backward()
    optimizer.step()
    if step >= WARMUP_STEPS:
        durations.append((time.perf_counter() - started) * 1000)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"durationsMs": durations, "peakRssMb": peak, "library": f"PyTorch {torch.__version__}", "device": "CPU"}))
