"""The Vision Transformer is torchvision's in names and shapes, and the textbook's in numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from build.vit import LAYER_NORM_EPS, VIT_B_16, VisionTransformer, ViTConfig, resize_position_embedding

SMALL = ViTConfig(image_size=64, layers=3, heads=3, width=48, mlp_width=96)


def random_model(config: ViTConfig) -> VisionTransformer:
    """Random values everywhere: a zero bias or a unit norm hides a mistake."""
    torch.manual_seed(0)
    model = VisionTransformer(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def torchvision_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's ``vit_b_16`` with seven classes, written down from its architecture."""
    width, mlp, tokens = 768, 3072, 14 * 14 + 1
    shapes: dict[str, tuple[int, ...]] = {
        "class_token": (1, 1, width),
        "conv_proj.weight": (width, 3, 16, 16),
        "conv_proj.bias": (width,),
        "encoder.pos_embedding": (1, tokens, width),
        "encoder.ln.weight": (width,),
        "encoder.ln.bias": (width,),
        "heads.head.weight": (7, width),
        "heads.head.bias": (7,),
    }
    for i in range(12):
        layer = f"encoder.layers.encoder_layer_{i}"
        for norm in ("ln_1", "ln_2"):
            shapes[f"{layer}.{norm}.weight"] = shapes[f"{layer}.{norm}.bias"] = (width,)
        shapes[f"{layer}.self_attention.in_proj_weight"] = (3 * width, width)
        shapes[f"{layer}.self_attention.in_proj_bias"] = (3 * width,)
        shapes[f"{layer}.self_attention.out_proj.weight"] = (width, width)
        shapes[f"{layer}.self_attention.out_proj.bias"] = (width,)
        shapes[f"{layer}.mlp.0.weight"], shapes[f"{layer}.mlp.0.bias"] = (mlp, width), (mlp,)
        shapes[f"{layer}.mlp.3.weight"], shapes[f"{layer}.mlp.3.bias"] = (width, mlp), (width,)
    return shapes


def textbook(model: VisionTransformer, images: Tensor) -> tuple[Tensor, Tensor]:
    """Every row of every block, with torch's own attention: logits and the class row of the last averaged weights."""
    state, config = model.state_dict(), model.config

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (config.width,), state[f"{name}.weight"], state[f"{name}.bias"], LAYER_NORM_EPS)

    patches = F.conv2d(images, state["conv_proj.weight"], state["conv_proj.bias"], stride=config.patch_size)
    x = torch.cat([state["class_token"].expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
    x = x + state["encoder.pos_embedding"]
    weights = torch.empty(0)
    for i in range(config.layers):
        name = f"encoder.layers.encoder_layer_{i}"
        attention = nn.MultiheadAttention(config.width, config.heads, batch_first=True).eval()
        prefix = f"{name}.self_attention."
        attention.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        normed = norm(x, f"{name}.ln_1")
        out, weights = attention(normed, normed, normed, need_weights=True, average_attn_weights=True)
        x = x + out
        hidden = F.linear(norm(x, f"{name}.ln_2"), state[f"{name}.mlp.0.weight"], state[f"{name}.mlp.0.bias"])
        x = x + F.linear(F.gelu(hidden), state[f"{name}.mlp.3.weight"], state[f"{name}.mlp.3.bias"])
    logits = F.linear(norm(x, "encoder.ln")[:, 0], state["heads.head.weight"], state["heads.head.bias"])
    return logits, weights[:, 0, 1:].reshape(-1, config.grid, config.grid)


def test_names_and_shapes_are_those_of_torchvision() -> None:
    expected = torchvision_shapes()
    assert len(expected) == 152
    with torch.device("meta"):
        state = VisionTransformer(VIT_B_16).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == expected


def test_class_row_alone_equals_the_textbook_forward() -> None:
    model = random_model(SMALL)
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        logits, attention = model(images)
        expected_logits, expected_attention = textbook(model, images)
    torch.testing.assert_close(logits, expected_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(attention.mean(dim=1), expected_attention, atol=1e-5, rtol=1e-5)
    assert attention.shape == (3, 3, 4, 4)
    assert (attention.sum(dim=(2, 3)) < 1).all()


def test_stochastic_depth_acts_only_in_training() -> None:
    torch.manual_seed(0)
    model = VisionTransformer(SMALL, drop_path=0.9)
    nn.init.normal_(model.heads.get_submodule("head").get_parameter("weight"))
    images = torch.randn(2, 3, 64, 64)
    assert not torch.equal(model.train()(images)[0], model(images)[0])
    assert torch.equal(model.eval()(images)[0], model(images)[0])


def test_position_embedding_keeps_the_class_entry_and_the_layout() -> None:
    ramp = torch.linspace(0, 1, 4)[:, None].expand(4, 4).reshape(1, 16, 1)
    embedding = torch.cat([torch.full((1, 1, 1), 7.0), ramp], dim=1)
    larger = resize_position_embedding(embedding, 8)
    assert larger.shape == (1, 65, 1)
    assert larger[0, 0, 0] == 7.0
    image = larger[0, 1:, 0].reshape(8, 8)
    torch.testing.assert_close(image, image[:, :1].expand(8, 8))  # rows stay rows
    assert (image[1:-1, 0].diff() > 0).all()
    assert resize_position_embedding(embedding, 4) is embedding
