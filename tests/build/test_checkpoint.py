"""torchvision's and timm's own networks and our loaded copy of them answer alike; what does not fit is named."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from build.checkpoint import CheckpointError, DoesNotFit, Origin, load_checkpoint  # noqa: E402
from build.random_bundle import random_model  # noqa: E402
from build.vit import VIT_TI_16, ViTConfig  # noqa: E402
from tests.fakes.torchvision_ops import declare  # noqa: E402

OWN = ViTConfig(layers=2, heads=2, width=32, mlp_width=64)


@pytest.fixture(scope="module")
def torchvision_models() -> Any:
    declare()
    return pytest.importorskip("torchvision.models", reason="torchvision's wheel is for x86-64 only")


@pytest.fixture(scope="module")
def timm() -> Any:
    declare()
    return pytest.importorskip("timm", reason="timm is not installed")


@pytest.fixture(scope="module")
def tiny() -> dict[str, Tensor]:
    """A state dict under torchvision's names, ViT-Ti."""
    return dict(random_model(VIT_TI_16).state_dict())


def randomised(network: nn.Module) -> nn.Module:
    """Random values everywhere: a zero head or a unit norm hides a mistake."""
    torch.manual_seed(2)
    for name, parameter in network.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if re.search(r"(ln\w*|norm\d?)\.weight$", name) else 0.0, std=0.04)
    return network.eval()


def assert_same_answers(network: nn.Module, path: Path) -> None:
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = network(images)
        logits, attention = load_checkpoint(path).model(images)
    assert expected.std() > 0.05
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=2e-5)
    assert attention.shape[2:] == (14, 14)


def test_torchvisions_vit_b_16_and_ours_answer_alike(torchvision_models: Any, tmp_path: Path) -> None:
    network = randomised(torchvision_models.vit_b_16(num_classes=7))
    torch.save(network.state_dict(), tmp_path / "vit.pt")
    assert_same_answers(network, tmp_path / "vit.pt")
    checkpoint = load_checkpoint(tmp_path / "vit.pt")
    assert (checkpoint.origin, checkpoint.architecture) == (Origin.TORCHVISION, "vit_b_16")
    assert not checkpoint.model.training
    assert not any(parameter.requires_grad for parameter in checkpoint.model.parameters())


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("vit_tiny_patch16_224", "vit_ti_16"),
        ("vit_small_patch16_224", "vit_s_16"),
        ("vit_base_patch16_224", "vit_b_16"),
    ],
)
def test_timms_networks_and_ours_answer_alike(timm: Any, name: str, architecture: str, tmp_path: Path) -> None:
    network = randomised(timm.create_model(name, num_classes=7))
    save_file(network.state_dict(), tmp_path / "vit.safetensors")
    assert_same_answers(network, tmp_path / "vit.safetensors")
    checkpoint = load_checkpoint(tmp_path / "vit.safetensors")
    assert (checkpoint.origin, checkpoint.architecture) == (Origin.TIMM, architecture)


def test_a_head_replaced_for_fine_tuning_is_found(torchvision_models: Any, tmp_path: Path) -> None:
    network = torchvision_models.VisionTransformer(224, 16, 12, 3, 192, 768)
    network.heads = nn.Linear(192, 7)
    torch.save(randomised(network).state_dict(), tmp_path / "vit.pt")
    assert_same_answers(network, tmp_path / "vit.pt")


def test_older_names_of_torchvision_are_known(tiny: dict[str, Tensor], tmp_path: Path) -> None:
    older = {k.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v for k, v in tiny.items()}
    assert older.keys() != tiny.keys()
    torch.save(older, tmp_path / "vit.pt")
    found = load_checkpoint(tmp_path / "vit.pt").model.state_dict()
    assert all(torch.equal(found[name], tiny[name]) for name in tiny)


def test_our_trainings_checkpoint_brings_its_sizes(tmp_path: Path) -> None:
    model = random_model(OWN)
    torch.save({"model": model.state_dict(), "config": asdict(OWN), "about": {"epoch": 3}}, tmp_path / "best.pt")
    checkpoint = load_checkpoint(tmp_path / "best.pt")
    assert (checkpoint.config, checkpoint.origin) == (OWN, Origin.DERMASCAN)
    assert re.fullmatch("[0-9a-f]{64}", checkpoint.sha256)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype: torch.dtype, tiny: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({name: value.to(dtype) for name, value in tiny.items()}, tmp_path / "vit.pt")
    state = load_checkpoint(tmp_path / "vit.pt").model.state_dict()
    assert all(value.dtype == torch.float32 for value in state.values())
    assert torch.equal(state["heads.head.bias"], tiny["heads.head.bias"].to(dtype).float())


@dataclass(frozen=True)
class Misfit:
    """Tensors taken out of (all whose name begins so) and put into a state dict, and what is said of it."""

    message: str
    put: dict[str, Tensor] = field(default_factory=dict)
    out: tuple[str, ...] = ()


MISFITS = {
    "imagenet head": Misfit(
        r"the head heads\.head\.weight has 1000 classes, and the product's are 7, in this order: melanoma, basal_cell",
        {"heads.head.weight": torch.ones(1000, 192), "heads.head.bias": torch.ones(1000)},
    ),
    "missing": Misfit(
        r"does not fit vit_ti_16 under torchvision's names; missing \(2\): class_token, encoder\.ln\.bias$",
        out=("encoder.ln.bias", "class_token"),
    ),
    "unknown": Misfit(r"; unknown \(1\): encoder\.extra$", {"encoder.extra": torch.ones(1)}),
    "shape": Misfit(
        r"; wrong \(1\): encoder\.ln\.weight is \[191\] where \[192\] is due$", {"encoder.ln.weight": torch.ones(191)}
    ),
    "quantised": Misfit(
        r"encoder\.ln\.weight is \[192\] of int8 where \[192\] is due$",
        {"encoder.ln.weight": torch.ones(192, dtype=torch.int8)},
    ),
    "sparse": Misfit(
        r"encoder\.ln\.weight is \[192\] and sparse where", {"encoder.ln.weight": torch.ones(192).to_sparse()}
    ),
    "no values": Misfit(
        r"encoder\.ln\.weight is \[192\] without values where",
        {"encoder.ln.weight": torch.ones(192, device="meta")},
    ),
    "hidden layer": Misfit(
        r"unknown \(1\): heads\.pre_logits\.weight; the head has a hidden layer",
        {"heads.pre_logits.weight": torch.ones(5, 5)},
    ),
    "dropout": Misfit(
        r"missing \(2\): heads\.head\.weight, .*unknown \(2\): heads\.head\.1\.weight, .*the head must be one Linear",
        {"heads.head.1.weight": torch.ones(7, 192), "heads.head.1.bias": torch.ones(7)},
        out=("heads.head.",),
    ),
    "384 px": Misfit(
        r"pos_embedding is \[1, 577, 192\] where \[1, 197, 192\] is due; .* of another image size than 224 px",
        {"encoder.pos_embedding": torch.ones(1, 577, 192)},
    ),
    "patch 32": Misfit(
        r"conv_proj\.weight is \[192, 3, 32, 32\], which no known network has \(vit_b_16 \[768, 3, 16, 16\]",
        {"conv_proj.weight": torch.ones(192, 3, 32, 32)},
    ),
    "vit_l_16": Misfit(
        r"conv_proj\.weight is \[1024, 3, 16, 16\], which no known network has",
        {"conv_proj.weight": torch.ones(1024, 3, 16, 16)},
    ),
    "no projection": Misfit(r"conv_proj\.weight is missing", out=("conv_proj.weight",)),
    "not a number": Misfit(
        r"encoder\.ln\.bias hold values that are not numbers or infinite",
        {"encoder.ln.bias": torch.full((192,), torch.nan)},
    ),
    "infinite": Misfit(
        r"encoder\.ln\.bias hold values that are not numbers or infinite",
        {"encoder.ln.bias": torch.full((192,), -torch.inf)},
    ),
    "another network": Misfit(
        r"not a Vision Transformer's names as torchvision, timm or our training give them: conv1\.weight, fc\.bias;",
        {"conv1.weight": torch.ones(1), "fc.bias": torch.ones(1)},
        out=("",),
    ),
    "transformers": Misfit(
        "look like those of Hugging Face transformers", {"vit.embeddings.cls_token": torch.ones(1)}, out=("",)
    ),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_what_does_not_fit_is_named(kind: str, tiny: dict[str, Tensor], tmp_path: Path) -> None:
    misfit = MISFITS[kind]
    kept = {name: value for name, value in tiny.items() if not (misfit.out and name.startswith(misfit.out))}
    torch.save(kept | misfit.put, tmp_path / "vit.pt")
    with pytest.raises(CheckpointError, match=misfit.message) as caught:
        load_checkpoint(tmp_path / "vit.pt")
    assert str(caught.value).startswith(f"{tmp_path / 'vit.pt'}: ")
    assert "\n" not in str(caught.value)


def test_the_lists_of_what_does_not_fit_are_whole(tiny: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({name: value for name, value in tiny.items() if "layer_11" not in name}, tmp_path / "vit.pt")
    with pytest.raises(DoesNotFit, match=r"missing \(12\): .* and 4 more$") as caught:
        load_checkpoint(tmp_path / "vit.pt")
    assert caught.value.missing == tuple(name for name in tiny if "layer_11" in name)


def test_timms_misfits_are_named_as_timm_names_them(timm: Any, tmp_path: Path) -> None:
    network = timm.create_model("vit_tiny_patch16_224", num_classes=7, class_token=False, global_pool="avg")
    torch.save(network.state_dict(), tmp_path / "vit.pt")
    with pytest.raises(DoesNotFit, match=r"under timm's names.*averages all tokens") as caught:
        load_checkpoint(tmp_path / "vit.pt")
    assert caught.value.missing == ("cls_token", "norm.weight", "norm.bias")
    assert set(caught.value.unexpected) == {"fc_norm.weight", "fc_norm.bias"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 1_000_000_000}, "config must give"),
        ({"layers": 2.0}, "config must give"),
        ({"layers": 70}, "70 layers and 2 heads for 32 features"),
        ({"layers": 64, "width": 8192, "mlp_width": 8192}, r"the network has 103 GB"),
        ({"heads": 3}, "2 layers and 3 heads for 32 features"),
        ({"image_size": 160}, r"takes 160 px in 10 x 10 patches.*last stage"),
        ({"depth": 3}, "config must give"),
    ],
)
def test_noted_sizes_are_not_believed_blindly(change: dict[str, object], message: str, tmp_path: Path) -> None:
    content = {"model": random_model(OWN).state_dict(), "config": asdict(OWN) | change}
    torch.save(content, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "best.pt")


def test_our_own_head_of_other_classes_is_named_too(tmp_path: Path) -> None:
    nine = replace(OWN, classes=9)
    torch.save({"model": random_model(nine).state_dict(), "config": asdict(nine)}, tmp_path / "best.pt")
    with pytest.raises(DoesNotFit, match=r"the head heads\.head\.weight has 9 classes, and the product's are 7"):
        load_checkpoint(tmp_path / "best.pt")


def test_a_tensor_that_claims_more_than_it_has_costs_no_memory(tiny: dict[str, Tensor], tmp_path: Path) -> None:
    huge = dict(tiny) | {"encoder.ln.weight": torch.ones(1).expand(1 << 40)}
    torch.save(huge, tmp_path / "vit.pt")
    with pytest.raises(DoesNotFit, match=r"encoder\.ln\.weight is \[1099511627776\]"):
        load_checkpoint(tmp_path / "vit.pt")


def test_values_beyond_fp16_are_noted(tiny: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(tiny, tmp_path / "vit.pt")
    assert load_checkpoint(tmp_path / "vit.pt").beyond_fp16 == ()
    torch.save(dict(tiny) | {"encoder.ln.bias": torch.full((192,), -70000.0)}, tmp_path / "vit.pt")
    assert load_checkpoint(tmp_path / "vit.pt").beyond_fp16 == ("encoder.ln.bias",)
