"""Which TensorRT is here is told by what its bindings have; what cannot be used is refused in a sentence."""

from __future__ import annotations

import importlib
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from engines.tensorrt.versions import ORDINARY, RTX, NoTensorRT, TensorRT, describe, find_tensorrt


def bindings(version: str, **flags: bool) -> Any:
    """Bindings with the names that tell versions apart."""
    weak = flags.get("weak", not version.startswith("11"))
    return SimpleNamespace(
        __version__=version,
        NetworkDefinitionCreationFlag=SimpleNamespace(
            **({} if version.startswith("8") else {"STRONGLY_TYPED": 0}),
            **({} if version.startswith("11") else {"EXPLICIT_BATCH": 0}),
        ),
        BuilderFlag=SimpleNamespace(**({"FP16": 0, "OBEY_PRECISION_CONSTRAINTS": 1} if weak else {})),
        IBuilderConfig=SimpleNamespace(),
        **({} if version.startswith("8") else {"IProgressMonitor": object}),
        **{name: object for name in ("Builder", "OnnxParser", "Runtime") if flags.get(name, True)},
    )


def loader(**modules: Any) -> Any:
    """An import that finds these modules, or raises these errors."""

    def load(name: str) -> ModuleType:
        found = modules.get(name, ModuleNotFoundError(f"No module named '{name}'", name=name))
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    return load


def told(found: TensorRT) -> tuple[bool, ...]:
    return found.strong, found.weak, found.explicit_batch, found.old_parser, found.progress


@pytest.mark.parametrize(
    ("version", "what"),
    [
        ("8.6.2", (False, True, True, True, False)),  # JetPack 6.0
        ("10.3.0", (True, True, False, False, True)),  # JetPack 6.1 and 6.2
        ("10.13.3.9", (True, True, False, False, True)),  # JetPack 7
        ("11.4.0.106", (True, False, False, False, True)),
    ],
)
def test_what_a_version_can_do(version: str, what: tuple[bool, ...]) -> None:
    found = find_tensorrt(load=loader(tensorrt=bindings(version)))
    assert (found.product, found.version) == (ORDINARY, version)
    assert told(found) == what
    assert found.timing_cache
    assert not found.targets
    assert found.label == f"TensorRT {version}"


def test_jetpack_5_is_told_that_it_is_too_old() -> None:
    with pytest.raises(
        NoTensorRT, match=r"TensorRT 8\.5\.2\.2 is too old: 8\.6 .*JetPack 5.*Python 3\.8.*update JetPack"
    ):
        describe(bindings("8.5.2.2"))


def test_nothing_installed_is_told_with_the_remedy() -> None:
    with pytest.raises(NoTensorRT, match=r"TensorRT is not installed; .*pip install.*--system-site-packages"):
        find_tensorrt(load=loader())
    with pytest.raises(NoTensorRT, match="neither TensorRT nor TensorRT-RTX"):
        find_tensorrt(experimental=True, load=loader())


def test_broken_installations_are_told_apart() -> None:
    lacks = ImportError("libnvinfer.so.10: cannot open shared object file: No such file or directory")
    with pytest.raises(NoTensorRT, match=r"libraries cannot be loaded \(libnvinfer\.so\.10.*ldconfig"):
        find_tensorrt(load=loader(tensorrt=lacks))
    part = ModuleNotFoundError("No module named 'tensorrt_bindings'", name="tensorrt_bindings")
    with pytest.raises(NoTensorRT, match="a part of it is missing"):
        find_tensorrt(load=loader(tensorrt=part))
    with pytest.raises(NoTensorRT, match="has no version"):
        find_tensorrt(load=loader(tensorrt=SimpleNamespace(__version__="")))
    with pytest.raises(NoTensorRT, match="has no Builder and no OnnxParser: it is a lean"):
        find_tensorrt(load=loader(tensorrt=bindings("10.3.0", Builder=False, OnnxParser=False)))


def test_rtx_is_an_experiment_that_must_be_asked_for() -> None:
    rtx = bindings("1.7.1.116", weak=False)
    with pytest.raises(NoTensorRT, match="TensorRT is not installed"):
        find_tensorrt(load=loader(tensorrt_rtx=rtx))
    for name in ("tensorrt_rtx", "tensorrt_rtx_bindings"):
        found = find_tensorrt(experimental=True, load=loader(**{name: rtx}))
        assert (found.product, found.label) == (RTX, "TensorRT-RTX 1.7.1.116")
        assert told(found) == (True, False, False, False, True)
        assert not found.timing_cache  # its operations do nothing there, and warn
    both = loader(tensorrt=bindings("10.3.0"), tensorrt_rtx=rtx)
    assert find_tensorrt(experimental=True, load=both).product == ORDINARY


def test_the_real_bindings_have_the_shape_of_tensorrt_11() -> None:
    pytest.importorskip("tensorrt_rtx_bindings")

    def only_rtx(name: str) -> ModuleType:
        if name == ORDINARY:
            raise ModuleNotFoundError(name=name)
        return importlib.import_module(name)

    found = find_tensorrt(experimental=True, load=only_rtx)
    assert told(found) == (True, False, False, False, True)
    assert found.targets
    assert found.cuda_major == 13
    trt = found.module
    for gone in ("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"):
        assert not hasattr(trt.BuilderFlag, gone)
    assert not hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH")
    assert not any(hasattr(trt.ILayer, gone) for gone in ("precision", "set_output_type"))
