"""The fakes are shaped like the real thing: every name, argument and enum of theirs is in the real bindings.

TensorRT's are compared with TensorRT-RTX's, which have TensorRT 11's API; those of pycuda and cuda-bindings
where they are installed.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.fakes import fake_cuda_bindings, fake_pycuda, fake_tensorrt

CLASSES = ("ILogger", "Logger", "Runtime", "ICudaEngine", "IExecutionContext")
ENUMS = ("TensorIOMode", "DataType", "ExecutionContextAllocationStrategy")


def _overloads(real: Any) -> Iterator[list[str]]:
    """The argument names of each form of a pybind11 or Cython function, from its docstring."""
    name = real.__name__
    for line in (real.__doc__ or "").splitlines():
        found = re.match(rf"(?:\d+\. )?{name}\((.*)\)(?: -> .*)?$", line)
        if found and "*args" not in found[1]:
            nested = re.sub(r"\[[^]]*\]|<[^>]*>", "", found[1])
            yield [
                part.split(":")[0].split("=")[0].split()[-1] for part in nested.split(",") if part.split(":")[0].split()
            ]


def _arguments(fake: Any) -> list[str]:
    return list(inspect.signature(fake).parameters)


def _public(fake: type) -> list[str]:
    return [name for name in vars(fake) if not name.startswith("_")]


@pytest.fixture(scope="module")
def real() -> ModuleType:
    return pytest.importorskip("tensorrt_rtx_bindings", reason="the bindings of TensorRT-RTX are not installed")


@pytest.mark.parametrize("name", CLASSES)
def test_methods_of_tensorrt_have_the_real_names_and_arguments(real: ModuleType, name: str) -> None:
    fake_class, real_class = getattr(fake_tensorrt, name), getattr(real, name)
    for member in _public(fake_class):
        assert hasattr(real_class, member), f"{name}.{member} does not exist in {real.__name__}"
        fake_member, real_member = vars(fake_class)[member], getattr(real_class, member)
        if inspect.isfunction(fake_member):
            forms = list(_overloads(real_member))
            assert _arguments(fake_member) in forms, f"{name}.{member}: {_arguments(fake_member)} is none of {forms}"
        elif isinstance(fake_member, property):
            assert isinstance(real_member, property), f"{name}.{member} is no property"


def test_what_fakes_set_on_themselves_is_there_too(real: ModuleType) -> None:
    for name, members in {
        "Runtime": ("engine_host_code_allowed",),
        "ICudaEngine": ("device_memory_size_v2",),
        "Logger": ("min_severity",),
    }.items():
        for member in members:
            assert isinstance(getattr(getattr(real, name), member), property)


@pytest.mark.parametrize("name", ENUMS)
def test_enums_of_tensorrt_have_the_real_members(real: ModuleType, name: str) -> None:
    members = {member.name: member.value for member in getattr(fake_tensorrt, name)}
    assert members.items() <= {key: int(value) for key, value in getattr(real, name).__members__.items()}.items()


def test_the_loggers_severities_are_the_real_ones(real: ModuleType) -> None:
    fake = {member.name: member.value for member in fake_tensorrt.ILogger.Severity}
    assert fake == {name: int(value) for name, value in real.ILogger.Severity.__members__.items()}


def test_a_wrong_name_would_be_found(real: ModuleType) -> None:
    """The comparison itself can fail: the API of 8.5, gone since, and an argument of another name."""
    assert not hasattr(real.ICudaEngine, "get_binding_index")
    assert ["self", "stream_handle"] in list(_overloads(real.IExecutionContext.execute_async_v3))
    assert ["self", "handle"] not in list(_overloads(real.IExecutionContext.execute_async_v3))


def _functions(fake: ModuleType) -> list[str]:
    return [name for name, value in vars(fake).items() if inspect.isfunction(value) and not name.startswith("_")]


def test_functions_of_cuda_bindings_have_the_real_names_and_arguments() -> None:
    real = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    for name in _functions(fake_cuda_bindings):
        assert _arguments(getattr(fake_cuda_bindings, name)) in list(_overloads(getattr(real, name))), name
    for name in ("CUresult", "CUstreamCaptureMode"):
        for member in getattr(fake_cuda_bindings, name):
            assert isinstance(member, enum.Enum)
            assert getattr(real, name)[member.name] == member.value


def test_functions_of_pycuda_have_the_real_names() -> None:
    real = pytest.importorskip("pycuda.driver", reason="pycuda is not installed")
    for name in [*_functions(fake_pycuda), "Error", "LogicError", "LaunchError"]:
        assert hasattr(real, name), name
    for name in (
        "Context",
        "Device",
        "Event",
        "Stream",
        "DeviceAllocation",
        "PagelockedHostAllocation",
        "host_alloc_flags",
    ):
        for member in _public(getattr(fake_pycuda, name)):
            assert hasattr(getattr(real, name), member), f"{name}.{member}"
