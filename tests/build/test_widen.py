"""The widened network computes what the original does, and really is another network."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from build import widen as widen_module
from build.export import export_onnx
from build.from_onnx import ForeignGraph, config_of, read_weights
from build.random_bundle import random_model
from build.vit import VIT_B_16, VIT_S_16, VIT_TI_16, VisionTransformer, ViTConfig
from build.widen import largest_difference, original, split_columns, widen, widened_config, widened_demo
from engines.bundle import golden_input, load_bundle
from engines.onnx_cpu import open_backend

SMALL = ViTConfig(image_size=64, layers=3, heads=2, width=128, mlp_width=192)
"""Heads of 64 features, as in all ViTs here, and all else as small as may be."""


def trained() -> VisionTransformer:
    """A small network in which no two weights are alike, as in every trained one."""
    model = random_model(SMALL)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def pictures(config: ViTConfig, count: int = 3) -> Tensor:
    return torch.randn(count, 3, config.image_size, config.image_size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("times", [2, 4])
def test_a_widened_network_answers_as_the_original(times: int) -> None:
    narrow = trained()
    wide = widen(narrow.state_dict(), SMALL, times)
    assert wide.config == widened_config(SMALL, times)
    probability, attention = largest_difference(narrow, wide, pictures(SMALL))
    assert probability < 1e-6
    assert attention < 1e-6


def test_its_weights_are_no_mere_copies() -> None:
    narrow = trained()
    wide = widen(narrow.state_dict(), SMALL, 4)
    weight = wide.state_dict()["encoder.layers.encoder_layer_0.mlp.0.weight"]
    parts = weight.unflatten(1, (4, SMALL.width))
    assert not torch.isclose(parts[:, 0], parts[:, 1]).any(dim=1).all()
    assert torch.linalg.matrix_rank(weight) > SMALL.width
    again = widen(narrow.state_dict(), SMALL, 4).state_dict()
    other = widen(narrow.state_dict(), SMALL, 4, seed=1).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in wide.state_dict().items())
    assert not torch.equal(weight, other["encoder.layers.encoder_layer_0.mlp.0.weight"])


def test_the_parts_sum_to_the_weight_and_are_as_small_as_a_wide_networks() -> None:
    weight = torch.randn(300, 200, generator=torch.Generator().manual_seed(1))
    parts = split_columns(weight, 4, torch.Generator().manual_seed(2)).unflatten(1, (4, 200))
    torch.testing.assert_close(parts.sum(dim=1), weight, atol=1e-5, rtol=0)
    assert parts.std().item() == pytest.approx(weight.std().item() / 2, rel=0.02)


def test_four_times_a_vit_ti_is_a_vit_b() -> None:
    assert widened_config(VIT_TI_16, 4) == VIT_B_16
    assert widened_config(VIT_TI_16, 2) == VIT_S_16


def test_the_demonstrations_weights_are_read_back_whole(demo_bundle: Path) -> None:
    """Through ONNX Runtime and through torch, with the calibration folded in: the same answers."""
    images = golden_input(load_bundle(demo_bundle))
    expected = open_backend(demo_bundle, threads=1).run(images)
    model = original(demo_bundle / "model.onnx")
    assert model.config == VIT_TI_16
    with torch.inference_mode():
        logits, attention = model(torch.from_numpy(images))
    np.testing.assert_allclose(logits.softmax(1).numpy(), expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(attention.mean(1).numpy(), expected.attention, atol=1e-5)


def test_the_demonstration_widened_answers_as_before(demo_bundle: Path) -> None:
    """Twice, to keep the test quick; four times is the same code."""
    weights = read_weights(demo_bundle / "model.onnx")
    wide = widen(weights, config_of(weights), 2)
    assert wide.config == VIT_S_16
    images = torch.from_numpy(golden_input(load_bundle(demo_bundle)))
    probability, attention = largest_difference(original(demo_bundle / "model.onnx"), wide, images)
    assert probability < 1e-5
    assert attention < 1e-5


def test_the_head_keeps_its_calibration(tmp_path: Path) -> None:
    narrow = trained()
    bias = [0.5, -1.0, 0.0, 0.25, 2.0, -0.5, 1.0]
    export_onnx(narrow, tmp_path / "model.onnx", fp16_weights=False, temperature=0.8, bias=bias)
    model = original(tmp_path / "model.onnx")
    images = pictures(SMALL)
    with torch.inference_mode():
        expected = (narrow(images)[0] / 0.8 + torch.tensor(bias)).softmax(1)
        torch.testing.assert_close(model(images)[0].softmax(1), expected, atol=1e-6, rtol=0)


def test_what_is_no_graph_of_ours_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ForeignGraph, match=r"model\.onnx: is no ONNX file"):
        read_weights(path)
    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), path)
    with pytest.raises(ForeignGraph, match=r"model\.onnx: the graph has no heads.head.bias"):
        read_weights(path)
    export_onnx(trained(), path, fp16_weights=False)
    with pytest.raises(ForeignGraph, match="four times this network is no ViT-B/16"):
        widened_demo(path)
    export_onnx(random_model(SMALL), path, fp16_weights=False)
    with pytest.raises(ForeignGraph, match=r"21 weights cannot be told apart \(conv_proj.bias first\)"):
        original(path)


def test_a_state_dict_that_lacks_a_weight_is_refused() -> None:
    weights = trained().state_dict()
    del weights["encoder.ln.weight"]
    with pytest.raises(RuntimeError, match=r"encoder\.ln\.weight"):
        widen(weights, SMALL)
    with pytest.raises(ForeignGraph, match=r"lack 'encoder\.pos_embedding'"):
        config_of({})


def test_the_command_writes_a_state_dict_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "model.onnx", tmp_path / "wide.pt"
    export_onnx(trained(), source, fp16_weights=True)
    monkeypatch.setattr(widen_module, "VIT_B_16", widened_config(SMALL, 4))
    monkeypatch.setattr(sys, "argv", ["widen", "--out", str(out), "--model", str(source)])
    assert widen_module.main() == 0
    assert "million parameters" in capsys.readouterr().out
    assert list(tmp_path.glob("*.tmp")) == []
    model = VisionTransformer(widened_config(SMALL, 4))
    model.load_state_dict(torch.load(out, weights_only=True))
    assert largest_difference(original(source), model.eval(), pictures(SMALL))[0] < 1e-6
    source.write_bytes(b"no graph")
    assert widen_module.main() == 78
    assert "is no ONNX file" in capsys.readouterr().err
