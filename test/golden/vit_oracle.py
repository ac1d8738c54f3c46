"""Writes vit-expected.json: what timm's vision transformers answer, and those of Hugging Face transformers, for weights and images that both sides compute from one formula.

Run in an environment with torch, timm, transformers and numpy: python test/golden/vit_oracle.py
"""
import functools
import json
import pathlib
import tempfile

import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from timm.layers import LayerNorm, SwiGLUPacked
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from vit_formula import formula_state, images

torch.set_num_threads(1)


COUNT = 2


def case(name, model, state, pooling, embed, side, specification):
    with torch.no_grad():
        embeddings = embed(model.eval().double(), images(COUNT, side).double())
    return {
        "name": name,
        "pooling": pooling,
        "imageSizePx": side,
        "specification": specification,
        "normEpsilon": next(module.eps for module in model.modules() if isinstance(module, torch.nn.LayerNorm)),
        "tensors": [[key, list(value.shape)] for key, value in state.items()],
        "embeddings": [[float(f"{value:.9g}") for value in row] for row in embeddings.tolist()],
    }


def pooled(tokens, pooling, prefix):
    cls, mean = tokens[:, 0], tokens[:, prefix:].mean(1)
    return {"CLS": cls, "MEAN": mean, "CLS_AND_MEAN": torch.cat([cls, mean], 1)}[pooling]


def of_timm(name, pooling, side=32, stated=None, **options):
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 4, "num_classes": 0, "dynamic_img_size": True, **options}
    model = VisionTransformer(**arguments)
    by_head = "fc_norm.weight" in model.state_dict()

    def embed(network, x):
        tokens = network.forward_features(x)
        return network.forward_head(tokens, pre_logits=True) if by_head else pooled(tokens, pooling, network.num_prefix_tokens)

    state = formula_state(model.state_dict())
    model.load_state_dict(state)
    return case(name, model, state, pooling, embed, side, {"headCount": arguments["num_heads"], **(stated or {})})


def of_transformers(name, model, pooling, side=32, prefix=1, **options):
    """Names and shapes are those of the file that `save_pretrained` writes: models on the hub have these, and in memory others."""

    def embed(network, x):
        return pooled(network(x).last_hidden_state, pooling, prefix)

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        file = pathlib.Path(folder) / "model.safetensors"
        state = formula_state(load_file(file))
        save_file(state, file, {"format": "pt"})
        loaded = type(model).from_pretrained(folder, attn_implementation="eager", **options)
    return case(name, loaded, state, pooling, embed, side, {"headCount": 4})


SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8, "attn_implementation": "eager"}

cases = [
    of_timm("plain", "CLS"),
    of_timm("registers without position, layer scale", "CLS_AND_MEAN", reg_tokens=4, no_embed_class=True, init_values=1e-5),
    of_timm("packed SwiGLU, eight registers", "CLS", reg_tokens=8, no_embed_class=True, mlp_ratio=5.33334, mlp_layer=SwiGLUPacked, act_layer=torch.nn.SiLU),
    of_timm("registers with position", "MEAN", reg_tokens=4),
    of_timm("mean without class token, norm after pooling", "MEAN", class_token=False, global_pool="avg"),
    of_timm("norm before the blocks, no bias of queries", "CLS", pre_norm=True, qkv_bias=False, norm_layer=functools.partial(LayerNorm, eps=1e-5)),
    of_timm("norm after attention and MLP", "CLS", block_fn=ResPostBlock, init_values=1.0, stated={"blockNorm": "POST"}),
    of_timm("larger images than the positions'", "CLS_AND_MEAN", side=56),
    of_timm("smaller images than the positions'", "MEAN", side=24, reg_tokens=4, no_embed_class=True),
    of_transformers("Hugging Face ViT", transformers.ViTModel(transformers.ViTConfig(intermediate_size=96, **SMALL), add_pooling_layer=False), "CLS", add_pooling_layer=False),
    of_transformers("Hugging Face Dinov2", transformers.Dinov2Model(transformers.Dinov2Config(**SMALL)), "CLS_AND_MEAN"),
    of_transformers("Hugging Face Dinov2, smaller images", transformers.Dinov2Model(transformers.Dinov2Config(**SMALL)), "CLS", side=24),
    of_transformers("Hugging Face Dinov2 with SwiGLU", transformers.Dinov2Model(transformers.Dinov2Config(use_swiglu_ffn=True, **SMALL)), "CLS"),
    of_transformers("Hugging Face Dinov2 with registers", transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(num_register_tokens=4, **SMALL)), "CLS_AND_MEAN", prefix=5),
    of_transformers("Hugging Face Dinov2 with registers, smaller images", transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(num_register_tokens=4, **SMALL)), "CLS", side=24, prefix=5),
]

lines = ",\n".join("    " + json.dumps(each) for each in cases)
oracle = f"timm {timm.__version__}, transformers {transformers.__version__}, torch {torch.__version__}, float64"
path = pathlib.Path(__file__).parent / "vit-expected.json"
path.write_text(f'{{\n  "oracle": {json.dumps(oracle)},\n  "count": {COUNT},\n  "cases": [\n{lines}\n  ]\n}}\n')
print(path, path.stat().st_size)
