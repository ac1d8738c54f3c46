"""Writes vit-training-expected.json: the gradients of timm's vision transformers in float64, for weights, images and a gradient of the embeddings that both sides compute from one formula.

Run in an environment with torch, timm and numpy: python test/golden/vit_training_oracle.py

Beside each gradient is how far PyTorch's own float32 is from it. Stochastic depth is timm's own, given the factors that the engine draws from the same numbers.
"""
import functools
import json
import pathlib

import timm
import torch
from simclr_oracle import compared
from timm.layers import LayerNorm, SwiGLUPacked
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from vit_formula import formula_state, images, noise

torch.set_num_threads(1)
COUNT = 3


class GivenDropPath(torch.nn.Module):
    """timm's DropPath with given factors: each image's branch times 0, or times what keeps the expectation."""

    def __init__(self, factors):
        super().__init__()
        self.factors = factors

    def forward(self, x):
        return x * self.factors.to(x.dtype)[:, None, None]


def give_factors(model, rate):
    """The engine draws one uniform number for each branch of each image, in this order; here they are a formula."""
    depth = len(model.blocks)
    for index, block in enumerate(model.blocks):
        kept = 1 - rate * index / (depth - 1)
        for part in (0, 1):
            uniform = torch.tensor([float(noise(f"row {row}", 2 * depth)[2 * index + part]) + 0.5 for row in range(COUNT)], dtype=torch.float64)
            setattr(block, f"drop_path{part + 1}", GivenDropPath((uniform < kept).double() / kept))


def pooled(network, x, pooling):
    tokens = network.forward_features(x)
    if pooling == "HEAD":
        return network.forward_head(tokens, pre_logits=True)
    cls, mean = tokens[:, 0], tokens[:, network.num_prefix_tokens :].mean(1)
    return {"CLS": cls, "MEAN": mean, "CLS_AND_MEAN": torch.cat([cls, mean], 1)}[pooling]


def gradients(model, pooling, side, dtype):
    model = model.to(dtype).train()
    model.zero_grad()
    embeddings = pooled(model, images(COUNT, side).to(dtype), pooling)
    wanted = torch.from_numpy(noise("embedding gradient", embeddings.numel()).reshape(tuple(embeddings.shape)))
    embeddings.backward(wanted.to(dtype))
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def case(name, pooling, side=32, stated=None, drop_path=0.0, **options):
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 4, "num_classes": 0, "dynamic_img_size": True, **options}
    model = VisionTransformer(**arguments)
    state = formula_state(model.state_dict())
    model.load_state_dict(state)
    if drop_path > 0:
        give_factors(model, drop_path)
    by_head = "fc_norm.weight" in state
    exact, rough = (gradients(model, "HEAD" if by_head else pooling, side, dtype) for dtype in (torch.float64, torch.float32))
    return {
        "name": name,
        "pooling": pooling,
        "imageSizePx": side,
        "dropPathRate": drop_path,
        "specification": {"headCount": arguments["num_heads"], **(stated or {})},
        "tensors": [[key, list(value.shape)] for key, value in state.items()],
        "gradients": compared(exact, rough),
    }


cases = [
    case("plain", "CLS"),
    case("registers without position, layer scale", "CLS_AND_MEAN", reg_tokens=4, no_embed_class=True, init_values=1e-5),
    case("packed SwiGLU, eight registers", "CLS", reg_tokens=8, no_embed_class=True, mlp_ratio=5.33334, mlp_layer=SwiGLUPacked, act_layer=torch.nn.SiLU),
    case("registers with position", "MEAN", reg_tokens=4),
    case("mean without class token, norm after pooling", "MEAN", class_token=False, global_pool="avg"),
    case("norm before the blocks, no bias of queries", "CLS", pre_norm=True, qkv_bias=False, norm_layer=functools.partial(LayerNorm, eps=1e-5)),
    case("norm after attention and MLP", "CLS", block_fn=ResPostBlock, init_values=1.0, stated={"blockNorm": "POST"}),
    case("larger images than the positions'", "CLS_AND_MEAN", side=56),
    case("smaller images than the positions'", "MEAN", side=24, reg_tokens=4, no_embed_class=True),
    case("stochastic depth", "CLS", depth=4, drop_path=0.5),
]
facts = {"oracle": f"timm {timm.__version__}, torch {torch.__version__}", "count": COUNT, "cases": cases}
path = pathlib.Path(__file__).with_name("vit-training-expected.json")
path.write_text(json.dumps(facts) + "\n")
for each in cases:
    print(each["name"], max(entry["float32Error"] for entry in each["gradients"].values()))
print(path.stat().st_size, "bytes")
