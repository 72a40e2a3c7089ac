"""The probe: whatever is wrong with driver, device or rights is one sentence, and nothing crashes the asker (F13)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.tensorrt import gpu
from engines.tensorrt.gpu import EXIT_NO_GPU, Gpu, NoGpu, probe, probe_apart

SOURCE = Path(__file__).parents[2] / "fakes" / "fake_libcuda.c"
Told = Callable[..., str]


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libcuda.so.1 that does as the environment says."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is here to make the pretended driver with")
    folder = tmp_path_factory.mktemp("driver")
    command = [compiler, "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(SOURCE)]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture
def found(driver: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Gpu]:
    """Probe in a process of its own with the pretended driver and these settings of it."""

    def ask(**settings: object) -> Gpu:
        monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
        for name, value in settings.items():
            monkeypatch.setenv(f"FAKE_CUDA_{name}", str(value))
        return probe_apart()

    return ask


def test_the_gpu_is_told_as_the_driver_tells_it(found: Callable[..., Gpu]) -> None:
    gpu = found(NAME="NVIDIA T4", CAPABILITY=75, DRIVER=12080)
    assert gpu == Gpu("NVIDIA T4", (7, 5), 16 << 30, gpu.driver, tegra=False, cuda=(12, 8))
    assert gpu.driver, "some version is always told"


@pytest.mark.fault("F13")
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"cuInit": 100}, "the driver sees no GPU: look for the card with lspci"),
        ({"COUNT": 0}, "the driver sees no GPU"),
        ({"cuInit": 803}, "different versions: restart the machine"),
        ({"cuInit": 999}, "nvidia-uvm is not loaded"),
        ({"cuInit": 34}, "the CUDA toolkit's stub"),
        ({"cuInit": 12345}, "see cuda.h for the code, and dmesg (cuInit gave error 12345)"),
        ({"cuDriverGetVersion": 3}, "cuDriverGetVersion gave error 3"),
        ({"cuDeviceTotalMem_v2": 214}, "memory error it cannot correct"),
        ({"CRASH": 1}, "ended in signal 11; install the driver again"),
    ],
)
def test_what_is_wrong_is_said(found: Callable[..., Gpu], settings: dict[str, int], sentence: str) -> None:
    with pytest.raises(NoGpu) as caught:
        found(**settings)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.fault("F13")
def test_a_driver_that_hangs_is_left(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
    monkeypatch.setenv("FAKE_CUDA_HANG", "1")
    with pytest.raises(NoGpu, match="gave no answer within 1 s"):
        probe_apart(timeout_s=1.0)


@pytest.mark.fault("F13")
def test_a_machine_without_driver_says_so() -> None:
    def absent(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    with pytest.raises(
        NoGpu, match=r"no NVIDIA driver is installed \(libcuda.so.1 was not found\); install it, or take"
    ):
        probe(load=absent)


def test_a_library_that_does_not_load_or_is_another_says_so() -> None:
    def broken(name: str) -> object:
        raise OSError(f"{name}: file too short")

    with pytest.raises(NoGpu, match=r"cannot be loaded \(libcuda.so.1: file too short\)"):
        probe(load=broken)
    with pytest.raises(NoGpu, match="is not CUDA's library"):
        probe(load=lambda name: object())


@pytest.mark.fault("F14")
def test_a_driver_older_than_tensorrt_is_found_before_it_is_asked_anything(
    driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ctypes

    monkeypatch.setenv("FAKE_CUDA_DRIVER", "11040")
    monkeypatch.setenv("FAKE_CUDA_cuInit", "999")
    with pytest.raises(
        NoGpu, match=r"too old: it supports CUDA 11.4, and the TensorRT installed here was made for CUDA 12"
    ):
        probe(needs_cuda=12, load=lambda name: ctypes.CDLL(str(driver / name)))


def test_a_closed_device_node_explains_more_than_the_error_code(
    driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ctypes

    (tmp_path / "dev").mkdir()
    node = tmp_path / "dev" / "nvidia0"
    node.touch()

    def refuse(path: object, flags: int) -> int:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(gpu.os, "open", refuse)
    monkeypatch.setenv("FAKE_CUDA_cuInit", "100")
    with pytest.raises(NoGpu, match=f"may not open {node}: put its user into the group that owns it"):
        probe(load=lambda name: ctypes.CDLL(str(driver / name)), root=tmp_path)


def test_a_jetson_is_known_by_its_board_and_its_shared_memory(
    driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ctypes

    tree = tmp_path / "proc" / "device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes(b"nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0")
    (tree / "model").write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:        7802012 kB\nMemFree:   12 kB\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nv_tegra_release").write_text(
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n"
    )
    monkeypatch.setenv("FAKE_CUDA_NAME", "Orin")
    monkeypatch.setenv("FAKE_CUDA_CAPABILITY", "87")
    monkeypatch.setenv("FAKE_CUDA_DRIVER", "12060")
    assert probe(load=lambda name: ctypes.CDLL(str(driver / name)), root=tmp_path) == Gpu(
        "NVIDIA Jetson Orin Nano Developer Kit", (8, 7), 7802012 * 1024, "L4T 36.4.3", tegra=True, cuda=(12, 6)
    )


@pytest.mark.fault("F13")
def test_the_command_here_says_why_and_does_not_crash() -> None:
    """On this very machine, with whatever it has: an answer in JSON and a documented exit status."""
    command = [sys.executable, "-m", "engines.tensorrt.gpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SOURCE.parents[2])
    assert done.returncode in (0, EXIT_NO_GPU), done.stderr
    assert ('"no_gpu"' in done.stdout) == (done.returncode == EXIT_NO_GPU)
    if not os.path.exists("/dev/nvidiactl") and not os.path.exists("/dev/nvmap"):  # noqa: PTH110 - device nodes
        assert done.returncode == EXIT_NO_GPU
