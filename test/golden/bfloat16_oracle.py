"""Writes bfloat16-expected.json: how far PyTorch's bfloat16 autocast is from its float32, for a training pass of the formula's ResNet-18.

Run in an environment with torch, torchvision and numpy: python test/golden/bfloat16_oracle.py
"""
import json
import pathlib

from encoder_oracle import build, images, noise, torch, torchvision

COUNT, SIDE_PX = 8, 64


def run(enabled):
    model = build("RESNET18").to(memory_format=torch.channels_last).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        embeddings = model(images(COUNT, SIDE_PX, SIDE_PX).contiguous(memory_format=torch.channels_last)).float()
    embeddings.backward(torch.from_numpy(noise("embedding gradient", embeddings.numel()).reshape(tuple(embeddings.shape))))
    return embeddings.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def relative(rough, fine):
    return float((rough.double() - fine.double()).norm() / fine.double().norm())


def main():
    (fine, fine_gradients), (rough, rough_gradients) = run(False), run(True)
    differences = {name: relative(rough_gradients[name], gradient) for name, gradient in fine_gradients.items()}
    facts = {"oracle": f"torch {torch.__version__}, torchvision {torchvision.__version__}", "count": COUNT, "sidePx": SIDE_PX, "embeddings": relative(rough, fine), "gradients": differences}
    target = pathlib.Path(__file__).with_name("bfloat16-expected.json")
    target.write_text(json.dumps(facts, indent=1) + "\n")
    print(facts["embeddings"], max(differences.values()))


if __name__ == "__main__":
    main()
