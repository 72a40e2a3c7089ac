"""A trained checkpoint becomes our network: torchvision's, timm's and our own names, and exactly what does not fit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from build.fp16 import MAXIMUM
from build.onnx_file import LIMIT
from build.tensor_file import CheckpointError, TensorFile, read_tensors
from build.vit import CONFIGS, VisionTransformer, ViTConfig
from engines.classes import CLASSES

IMAGE_SIZE: Final = 224
GRID: Final = 14
_WIDTHS: Final = {config.width: name for name, config in CONFIGS.items()}
_HEAD: Final = "heads.head.weight"
_POSITIONS: Final = "encoder.pos_embedding"
_SHOWN: Final = 8
_TIMM: Final = (
    ("class_token", "cls_token"),
    ("encoder.pos_embedding", "pos_embed"),
    ("conv_proj.", "patch_embed.proj."),
    ("encoder.layers.encoder_layer_", "blocks."),
    (".ln_1.", ".norm1."),
    (".self_attention.in_proj_", ".attn.qkv."),
    (".self_attention.out_proj.", ".attn.proj."),
    (".ln_2.", ".norm2."),
    (".mlp.0.", ".mlp.fc1."),
    (".mlp.3.", ".mlp.fc2."),
    ("encoder.ln.", "norm."),
    ("heads.head.", "head."),
)
"""Our names, which are torchvision's, and timm's for the same tensors."""
_OTHER_NAMES: Final = (
    (".mlp.0.", ".mlp.linear_1."),  # torchvision before 0.12
    (".mlp.3.", ".mlp.linear_2."),
    ("heads.head.", "heads."),  # model.heads = Linear(...), as many do it for fine-tuning
)
_HINTS: Final = (
    (r"dist_token|head_dist", "a distilled DeiT, which has a second token; export a network without it"),
    (r"fc_norm", "the network averages all tokens; the product's attention map needs one that reads the class token"),
    (r"reg_token", "the network has register tokens, which this architecture lacks"),
    (r"norm_pre|\.q_norm|\.k_norm|\.ls[12]\.|gamma", "an architecture with further norms or scales than ViT's"),
    (
        r"heads?\.(head\.)?\d",
        "the head must be one Linear; where only dropout stands before it, rename its two tensors",
    ),
    (r"pre_logits", "the head has a hidden layer (representation_size), which this architecture lacks"),
)


class Origin(str, Enum):
    """Whose names a checkpoint's tensors have."""

    TORCHVISION = "torchvision"
    TIMM = "timm"
    DERMASCAN = "dermascan"


class DoesNotFit(CheckpointError):
    """Names or shapes differ from the network's. The lists are whole; the message names the first few of each."""

    def __init__(
        self, message: str, missing: tuple[str, ...], unexpected: tuple[str, ...], misshapen: tuple[str, ...]
    ) -> None:
        super().__init__(message)
        self.missing = missing
        self.unexpected = unexpected
        self.misshapen = misshapen


@dataclass(frozen=True)
class Checkpoint:
    """A network with its trained weights (float32, evaluation mode), and where they came from."""

    path: Path
    sha256: str
    origin: Origin
    architecture: str
    model: VisionTransformer
    notes: tuple[str, ...] = ()
    beyond_fp16: tuple[str, ...] = field(default=())
    """Tensors, by the file's names, with a value beyond FP16's range."""

    @property
    def config(self) -> ViTConfig:
        """The network's sizes."""
        return self.model.config


def load_checkpoint(path: Path, weights: str | None = None) -> Checkpoint:
    """Load a checkpoint of torchvision's ``vit_b_16``, timm's ``vit_{base,small,tiny}_patch16_224`` or our training.

    Args:
        path: ``.pt`` or ``.safetensors``: a state dict, or a training checkpoint that holds one.
        weights: Which set of weights, where the file has several.

    Raises:
        CheckpointError: the file cannot be read safely, or holds another network's weights.
        DoesNotFit: the same, with the names and shapes that differ.
    """
    file = read_tensors(path, weights)
    origin = _origin(path, file)
    config = _config(path, file, origin)
    architecture = next((name for name, known in CONFIGS.items() if known == config), "vision_transformer")
    with torch.device("meta"):
        model = VisionTransformer(config)
    names = {name: _name_in_file(name, origin, file.state) for name in model.state_dict()}
    if (size := 4 * sum(tensor.numel() for tensor in model.parameters())) > LIMIT:
        raise CheckpointError(f"{path}: the network has {size / 1e9:.0f} GB, and a bundle's model ends at 2 GB")
    _check_fit(path, file.state, model, names, f"{architecture} under {origin.value}'s names")
    state = {name: file.state[theirs].detach().to(torch.float32, copy=True) for name, theirs in names.items()}
    sizes = {name: float(tensor.abs().max()) for name, tensor in state.items()}
    if broken := [names[name] for name, size in sizes.items() if not size < float("inf")]:
        raise CheckpointError(
            f"{path}: {_some(broken)} hold values that are not numbers or infinite; the training diverged, take an"
            " earlier checkpoint"
        )
    model.load_state_dict(state, assign=True)
    beyond = tuple(names[name] for name, size in sizes.items() if size > MAXIMUM)
    model.requires_grad_(requires_grad=False).eval()
    return Checkpoint(path, _sha256(path), origin, architecture, model, file.notes, beyond)


def _origin(path: Path, file: TensorFile) -> Origin:
    names = list(file.state)
    if any(re.match(r"cls_token|patch_embed\.|blocks\.\d", name) for name in names):
        return Origin.TIMM
    if any(re.match(r"class_token|conv_proj\.|encoder\.layers\.", name) for name in names):
        return Origin.DERMASCAN if file.config is not None else Origin.TORCHVISION
    hint = ""
    if any(re.search(r"embeddings\.cls_token|encoder\.layer\.0\.", name) for name in names):
        hint = " (they look like those of Hugging Face transformers)"
    raise CheckpointError(
        f"{path}: these are not a Vision Transformer's names as torchvision, timm or our training give them: "
        f"{_some(names)}{hint}; load the weights into torchvision's vit_b_16 or timm's vit_*_patch16_224 and save those"
    )


def _config(path: Path, file: TensorFile, origin: Origin) -> ViTConfig:
    """The sizes: noted down by our training, else told by the patch projection's width."""
    if origin is Origin.DERMASCAN:
        return _noted_config(path, file.config or {})
    name = _name_in_file("conv_proj.weight", origin, file.state)
    if name not in file.state:
        raise CheckpointError(f"{path}: {name} is missing, the tensor that tells the network's width; {_whole()}")
    shape = tuple(file.state[name].shape)
    if len(shape) != 4 or shape[0] not in _WIDTHS or shape[2:] != (16, 16):
        known = ", ".join(f"{known} [{width}, 3, 16, 16]" for width, known in _WIDTHS.items())
        raise CheckpointError(f"{path}: {name} is {list(shape)}, which no known network has ({known})")
    return CONFIGS[_WIDTHS[shape[0]]]


def _noted_config(path: Path, noted: Mapping[str, object]) -> ViTConfig:
    expected = {entry.name for entry in fields(ViTConfig)}
    if set(noted) != expected or not all(type(value) is int and 1 <= value <= 8192 for value in noted.values()):
        raise CheckpointError(f"{path}: config must give {', '.join(sorted(expected))} as whole numbers; {_whole()}")
    config = ViTConfig(**{name: value for name, value in noted.items() if isinstance(value, int)})
    config = replace(config, classes=len(CLASSES))  # another number is told by the head, with the classes' names
    if config.layers > 64 or config.width % config.heads:
        sizes = f"{config.layers} layers and {config.heads} heads for {config.width} features"
        raise CheckpointError(f"{path}: config has {sizes}, which is no network; {_whole()}")
    if (config.image_size, config.grid) != (IMAGE_SIZE, GRID):
        raise CheckpointError(
            f"{path}: the network takes {config.image_size} px in {config.grid} x {config.grid} patches, and the"
            f" product {IMAGE_SIZE} px in {GRID} x {GRID}; export the checkpoint of the training's last stage"
        )
    return config


def _name_in_file(name: str, origin: Origin, state: Mapping[str, Tensor]) -> str:
    """What the file calls one of our tensors."""
    if origin is Origin.TIMM:
        for ours, theirs in _TIMM:
            name = name.replace(ours, theirs)
        return name
    for ours, theirs in _OTHER_NAMES:
        other = name.replace(ours, theirs)
        if name not in state and other in state:
            return other
    return name


def _check_fit(
    path: Path, state: Mapping[str, Tensor], model: VisionTransformer, names: Mapping[str, str], what: str
) -> None:
    due = {names[name]: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing = tuple(name for name in due if name not in state)
    unexpected = tuple(name for name in state if name not in due)
    misshapen = tuple(
        f"{name} is {_described(state[name])} where {list(shape)} is due"
        for name, shape in due.items()
        if name in state and not _fits(state[name], shape)
    )
    if not (missing or unexpected or misshapen):
        return
    head = state.get(names[_HEAD])
    if not missing and not unexpected and head is not None and head.ndim == 2 and len(head) != len(CLASSES):
        message = (
            f"{path}: the head {names[_HEAD]} has {len(head)} classes, and the product's are {len(CLASSES)}, in this"
            f" order: {', '.join(CLASSES)}; train a head for these"
        )
        raise DoesNotFit(message, missing, unexpected, misshapen)
    parts = [
        f"{word} ({len(found)}): {_some(found)}"
        for word, found in (("missing", missing), ("unknown", unexpected), ("wrong", misshapen))
        if found
    ]
    hints = [hint for pattern, hint in _HINTS if any(re.search(pattern, name) for name in unexpected)]
    if names[_POSITIONS] in state and state[names[_POSITIONS]].shape[1:2] not in {(), (GRID**2 + 1,)}:
        hints.append(f"the position embedding is of another image size than {IMAGE_SIZE} px; fine-tune at that")
    raise DoesNotFit(f"{path}: does not fit {what}; {'; '.join([*parts, *hints])}", missing, unexpected, misshapen)


def _fits(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
    return tuple(tensor.shape) == shape and tensor.is_floating_point() and plain


def _described(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f" of {str(tensor.dtype).removeprefix('torch.')}"
    sparse = "" if tensor.layout is torch.strided else " and sparse"
    return f"{list(tensor.shape)}{kind}{sparse}" + ("" if tensor.device.type == "cpu" else " without values")


def _some(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _whole() -> str:
    return "save the whole network: torch.save(model.state_dict(), FILE)"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
