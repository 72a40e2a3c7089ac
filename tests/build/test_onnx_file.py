"""An ONNX file is read whole or refused in one sentence, and never written half."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")

from build import onnx_file  # noqa: E402
from build.export import export_onnx  # noqa: E402
from build.onnx_file import GraphError, element_types, read_model, shapes, write_model  # noqa: E402
from build.random_bundle import random_model  # noqa: E402
from build.vit import VisionTransformer, ViTConfig  # noqa: E402

pytestmark = pytest.mark.timeout(120)  # tracing takes seconds of processor time, and a busy machine gives few


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    export_onnx(random_model(ViTConfig(layers=2, heads=2, width=32, mlp_width=64)), path, fp16_weights=False)
    return path


def test_a_model_is_read_with_types_and_shapes(model_file: Path) -> None:
    proto = read_model(model_file)
    types, sides = element_types(proto), shapes(proto)
    assert types["images"] == types["attention"] == onnx.TensorProto.FLOAT
    assert sides["images"] == ("batch", 3, 224, 224)
    assert sides["attention"] == ("batch", 14, 14)
    (first,) = [node.output[0] for node in proto.graph.node if node.op_type == "Conv"]
    assert sides[first] == ("batch", 32, 14, 14)
    assert types[next(node.output[0] for node in proto.graph.node if node.op_type == "Shape")] == onnx.TensorProto.INT64


def test_a_truncated_model_is_refused_wherever_it_ends(model_file: Path, tmp_path: Path) -> None:
    whole = model_file.read_bytes()
    for length in [0, 1, 20, *range(100, len(whole), len(whole) // 12), len(whole) - 1]:
        (tmp_path / "part.onnx").write_bytes(whole[:length])
        with pytest.raises(GraphError, match=r"part\.onnx: .*export the checkpoint again") as caught:
            read_model(tmp_path / "part.onnx")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"epoch,loss\n1,0.3\n", b"PK\x03\x04" + bytes(50), bytes(100), b"\x89PNG\r\n"])
def test_a_foreign_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.onnx").write_bytes(content)
    with pytest.raises(GraphError, match=r"file\.onnx: is no ONNX model"):
        read_model(tmp_path / "file.onnx")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path, tmp_path / "pipe.onnx", tmp_path / "none.onnx"):
        with pytest.raises(GraphError, match="is no file"):
            read_model(path)


def newer_format(proto: onnx.ModelProto) -> None:
    proto.ir_version = 11


def newer_opset(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 21


def outside(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL


def cut_wire(proto: onnx.ModelProto) -> None:
    proto.graph.node[5].input[0] = "nowhere"


def other_shape(proto: onnx.ModelProto) -> None:
    tensor = next(t for t in proto.graph.initializer if t.name.endswith("conv_proj.weight"))
    tensor.dims[0] = 31


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (newer_format, "IR version 11 and opset 20; devices read up to 10 and 20"),
        (newer_opset, "IR version 10 and opset 21"),
        (outside, "lies in another file"),
        (cut_wire, "is damaged or incomplete"),
        (other_shape, r"conv_proj\.weight has not the bytes of its shape"),
    ],
)
def test_a_changed_model_is_refused(
    change: Callable[[onnx.ModelProto], None], message: str, model_file: Path, tmp_path: Path
) -> None:
    proto = onnx.load(model_file)
    change(proto)
    (tmp_path / "file.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(GraphError, match=rf"file\.onnx: .*{message}"):
        read_model(tmp_path / "file.onnx")


def test_a_graph_that_the_checker_refuses_is_not_written(model_file: Path, tmp_path: Path) -> None:
    proto = read_model(model_file)
    (tmp_path / "model.onnx").write_bytes(b"the old one")
    cut_wire(proto)
    with pytest.raises(GraphError, match="invalid graph"):
        write_model(proto, tmp_path / "model.onnx")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("model.onnx", b"the old one")]


def test_a_full_disk_leaves_the_old_file_and_no_other(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(proto: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "model.onnx").write_bytes(b"the old one")
    monkeypatch.setattr(onnx_file.onnx, "save", fail)
    with pytest.raises(OSError, match="No space"):
        write_model(read_model(model_file), tmp_path / "model.onnx")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("model.onnx", b"the old one")]


def test_two_gigabytes_are_the_end(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "LIMIT", model_file.stat().st_size - 1)
    with pytest.raises(GraphError, match="ends at 2 GB"):
        read_model(model_file)
    with pytest.raises(GraphError, match="ends at 2 GB"):
        write_model(onnx.load(model_file), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_network_beyond_two_gigabytes_is_refused_before_it_is_traced(tmp_path: Path) -> None:
    import torch

    with torch.device("meta"):
        huge = VisionTransformer(ViTConfig(layers=32, heads=20, width=1280, mlp_width=5120))
    with pytest.raises(GraphError, match=r"would have 2\.5 GB, and an ONNX model in one file ends at 2 GB"):
        export_onnx(huge, tmp_path / "model.onnx", fp16_weights=False)
