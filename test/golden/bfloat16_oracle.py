"""Writes bfloat16-expected.json: how far PyTorch's bfloat16 autocast is from its float32, for a training pass of the formula's ResNet-18 and for the
losses of a short SimCLR training of it.

A training amplifies every rounding: with eight images the gradients of the first step already differ by 40 %. So its losses are not held to a bound
that somebody chose, but to how far autocast's are from float32's, over several runs whose views differ by a rounding.

Run in an environment with torch, torchvision and numpy: python test/golden/bfloat16_oracle.py
"""
import json
import pathlib

from encoder_oracle import build, images, noise, torch, torchvision
from simclr_oracle import PROJECTION_DIM, TEMPERATURE, SimClr, nt_xent, views

COUNT, SIDE_PX = 8, 64
TRAINING_SIDE_PX, STEPS, LEARNING_RATE, MOMENTUM, RUNS, ROUNDING = 32, 8, 0.1, 0.9, 8, 2**-9


def run(enabled):
    model = build("RESNET18").to(memory_format=torch.channels_last).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        embeddings = model(images(COUNT, SIDE_PX, SIDE_PX).contiguous(memory_format=torch.channels_last)).float()
    embeddings.backward(torch.from_numpy(noise("embedding gradient", embeddings.numel()).reshape(tuple(embeddings.shape))))
    return embeddings.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def relative(rough, fine):
    return float((rough.double() - fine.double()).norm() / fine.double().norm())


def losses(is_rough, run_index):
    """LARS on the same views in each step, at a constant rate. Run 0 has the formula's views; those of the others differ by a rounding."""
    model = SimClr("RESNET18").to(memory_format=torch.channels_last).train()
    shown = views(0, COUNT, TRAINING_SIDE_PX, TRAINING_SIDE_PX, torch.float32)
    if run_index > 0:
        shown = shown * (1 + ROUNDING * 2 * torch.from_numpy(noise(f"rounding {run_index}", shown.numel()).reshape(tuple(shown.shape))))
    shown = shown.contiguous(memory_format=torch.channels_last)
    velocities, told = {name: torch.zeros_like(parameter) for name, parameter in model.named()}, []
    for _ in range(STEPS):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_rough):
            embeddings = model.encoder(shown)
        loss = nt_xent(model.fc(embeddings.float()))
        loss.backward()
        told.append(float(loss.detach()))
        with torch.no_grad():
            for name, parameter in model.named():
                trust = 0.001 * parameter.norm() / parameter.grad.norm() if parameter.dim() > 1 else 1.0
                velocities[name] = MOMENTUM * velocities[name] + LEARNING_RATE * trust * parameter.grad
                parameter -= velocities[name]
    return told


def training():
    fine = losses(False, 0)
    differences = [max(abs(rough - wanted) / wanted for rough, wanted in zip(losses(True, run_index), fine)) for run_index in range(RUNS)]
    return {"sidePx": TRAINING_SIDE_PX, "projectionDim": PROJECTION_DIM, "temperature": TEMPERATURE, "learningRate": LEARNING_RATE, "momentum": MOMENTUM, "float32Losses": fine, "largestDifferences": differences}


def main():
    torch.set_num_threads(1)
    (fine, fine_gradients), (rough, rough_gradients) = run(False), run(True)
    differences = {name: relative(rough_gradients[name], gradient) for name, gradient in fine_gradients.items()}
    facts = {"oracle": f"torch {torch.__version__}, torchvision {torchvision.__version__}", "count": COUNT, "sidePx": SIDE_PX, "embeddings": relative(rough, fine), "gradients": differences, "training": training()}
    target = pathlib.Path(__file__).with_name("bfloat16-expected.json")
    target.write_text(json.dumps(facts, indent=1) + "\n")
    print(facts["embeddings"], max(differences.values()), facts["training"])


if __name__ == "__main__":
    main()
