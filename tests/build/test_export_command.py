"""``dermascan engine export``: from a checkpoint to a bundle that runs once it is signed, or to one clear sentence."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from safetensors.torch import save_file  # noqa: E402

from build import assemble, commands  # noqa: E402
from build.bundle_writer import cpu_session, write_bundle  # noqa: E402
from build.census import check_contract  # noqa: E402
from build.export import export_onnx  # noqa: E402
from build.onnx_file import read_model  # noqa: E402
from build.random_bundle import random_model, synthetic_lesion  # noqa: E402
from build.vit import VIT_TI_16, ViTConfig  # noqa: E402
from engines import onnx_cpu  # noqa: E402
from engines.backend import BundleError  # noqa: E402
from engines.bundle import golden_input, load_bundle, read_unsigned_bundle  # noqa: E402
from engines.golden import golden_check  # noqa: E402
from engines.trust.keys import demo_key  # noqa: E402
from engines.trust.signing import sign_bundle  # noqa: E402
from tests.fakes.torchvision_ops import declare  # noqa: E402

pytestmark = pytest.mark.timeout(120)  # tracing takes seconds of processor time, and a busy machine gives few

SIZES = ViTConfig(layers=2, heads=2, width=32, mlp_width=64)


def run(*words: object) -> int:
    """Run ``engine export`` as the command line does."""
    parser = argparse.ArgumentParser()
    commands.register(parser.add_subparsers(required=True))
    arguments = parser.parse_args(["export", *map(str, words)])
    code: int = arguments.run(arguments)
    return code


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As our training saves it, and small."""
    path = tmp_path_factory.mktemp("checkpoint") / "Best Model.pt"
    torch.save({"model": random_model(SIZES).state_dict(), "config": asdict(SIZES), "about": {}}, path)
    return path


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network's graph."""
    path = tmp_path_factory.mktemp("traced") / "model.onnx"
    export_onnx(random_model(SIZES), path, fp16_weights=False)
    return path


@pytest.fixture
def without_tracing(traced: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports take the graph that was traced before: seconds saved where tracing is not what is tested."""
    monkeypatch.setattr(assemble, "export_onnx", lambda model, path, **options: shutil.copyfile(traced, path))


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "lesions" / "2.1.0"
    assert run(checkpoint, "--out", folder, "--threshold", 0.3, "--chosen-on", "a test") == 0
    return folder


def test_a_bundle_waits_for_its_signature_and_then_runs(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"signature\.json"):
        load_bundle(bundle)
    signed = shutil.copytree(bundle, tmp_path / "2.1.0")
    sign_bundle(signed, demo_key())
    loaded = load_bundle(signed)
    assert loaded.label == "lesions/2.1.0"
    backend = onnx_cpu.open_backend(signed, threads=1)
    golden_check(loaded).check(backend.run(golden_input(loaded)))
    backend.close()
    assert np.ptp(loaded.manifest.golden.probabilities) > 0.05


def test_the_manifest_says_where_it_came_from(bundle: Path, checkpoint: Path) -> None:
    manifest = read_unsigned_bundle(bundle).manifest
    assert set(manifest.files) == {"model.onnx", "model.fp16.onnx", "golden.png", "MODEL_CARD.md"}
    assert manifest.architecture == "vision_transformer"
    assert (manifest.operating_point.threshold, manifest.operating_point.chosen_on) == (0.3, "a test")
    assert manifest.provenance["checkpoint"] == checkpoint.name
    assert len(manifest.provenance["checkpoint_sha256"]) == 64
    assert manifest.provenance["normalisation"] == "imagenet"
    assert manifest.input.mean == (0.485, 0.456, 0.406)
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "No figure of this model's accuracy was given" in card
    assert "Melanoma threshold: 0.3 (a test)" in card
    for text in (card, manifest.model_dump_json()):
        assert str(checkpoint.parent) not in text
        assert str(Path(__file__).parents[2]) not in text


def test_both_graphs_keep_the_contract_and_agree(bundle: Path) -> None:
    full, half = (check_contract(read_model(bundle / name)) for name in ("model.onnx", "model.fp16.onnx"))
    assert (full.half_nodes, full.blocks) == (0, 2)
    assert half.half_nodes > 40
    inputs = {"images": golden_input(read_unsigned_bundle(bundle))}
    answers = [cpu_session(bundle / name, 1).run(None, inputs) for name in ("model.onnx", "model.fp16.onnx")]
    assert [array.dtype for array in answers[1]] == [np.float32, np.float32]
    np.testing.assert_allclose(answers[1][0], answers[0][0], atol=2e-3)
    np.testing.assert_allclose(answers[1][1], answers[0][1], atol=2e-4)


@pytest.fixture
def timms_tiny(tmp_path: Path) -> tuple[Any, Path]:
    declare()
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(4)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=7).eval()
    torch.nn.init.normal_(network.head.weight, std=0.5)
    save_file(network.state_dict(), tmp_path / "tiny.safetensors")
    return network, tmp_path / "tiny.safetensors"


def test_timms_network_and_its_bundle_answer_alike(
    timms_tiny: tuple[Any, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, path = timms_tiny
    bundle = tmp_path / "tiny" / "1.0.0"
    assert run(path, "--out", bundle, "--json", "--no-fp16") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["architecture"], told["origin"], told["normalisation"]) == ("vit_ti_16", "timm", "half")
    assert told["graph"]["operators"]["LayerNormalization"] == 25
    assert any("--normalise imagenet" in warning for warning in told["warnings"])
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = network(images).softmax(dim=1).numpy()
    found = cpu_session(bundle / "model.onnx", 1).run(["probabilities"], {"images": images.numpy()})[0]
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5)
    manifest = read_unsigned_bundle(bundle).manifest
    assert manifest.input.mean == manifest.input.std == (0.5, 0.5, 0.5)
    assert "model.fp16.onnx" not in manifest.files


@pytest.mark.usefixtures("without_tracing")
def test_json_tells_what_was_measured(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(checkpoint, "--out", tmp_path / "out", "--json") == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["name"], told["version"], told["threshold"]) == ("best-model", "0.1.0", 0.5)
    assert told["against_torch"]["largest"] < 1e-5
    assert 0 < told["fp16_against_fp32"]["largest"] < 0.01
    assert 0.99 < told["fp16_against_fp32"]["attention"] <= 1
    assert 0 < told["largest_fp16_activation"] < 65504
    assert told["files"]["model.fp16.onnx"] == (tmp_path / "out" / "model.fp16.onnx").stat().st_size
    assert any("no --threshold" in warning for warning in told["warnings"])
    assert told["peak_memory_mb"] > 100
    assert "exporting vision_transformer from dermascan's names" in err
    assert "writing the bundle" in err


@pytest.mark.usefixtures("without_tracing")
def test_what_is_given_goes_into_the_bundle(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = synthetic_lesion(900, 1200, seed=3)
    cv2.imwrite(str(tmp_path / "lesion.jpg"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    (tmp_path / "card.md").write_text("# The card\n")
    statistics = {
        "images": 100,
        "mean_rgb": [0.7, 0.5, 0.5],
        "std_rgb": [0.1, 0.1, 0.1],
        "predicted_shares": [0.1, 0.1, 0.1, 0.1, 0.4, 0.1, 0.1],
        "mean_confidence": 0.7,
    }
    (tmp_path / "reference.json").write_text(json.dumps(statistics))
    words = [
        "--name",
        "derm",
        "--version",
        "3.2.1",
        "--golden",
        tmp_path / "lesion.jpg",
        "--card",
        tmp_path / "card.md",
    ]
    words += ["--reference", tmp_path / "reference.json", "--licence", "Apache-2.0", "--intended-use", "Tests."]
    words += ["--threshold", "0.12", "--sensitivity", "0.91", "--specificity", "0.6", "--normalise", "half"]
    assert run(checkpoint, "--out", tmp_path / "out", *words) == 0
    manifest = read_unsigned_bundle(tmp_path / "out").manifest
    assert (manifest.name, manifest.version, manifest.licence) == ("derm", "3.2.1", "Apache-2.0")
    assert (manifest.operating_point.sensitivity, manifest.operating_point.specificity) == (0.91, 0.6)
    assert manifest.reference_statistics is not None
    assert manifest.reference_statistics.images == 100
    assert manifest.input.std == (0.5, 0.5, 0.5)
    assert (tmp_path / "out" / "MODEL_CARD.md").read_text() == "# The card\n"
    stored = cv2.imread(str(tmp_path / "out" / "golden.png"))
    assert stored.shape == (480, 640, 3)
    told = capsys.readouterr().out
    assert "derm 3.2.1" in told
    assert "next: dermascan engine sign" in told


def test_temperature_and_bias_shape_the_answer(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    bias = [0.5, -0.5, 0, 0, 1.5, 0, 0]
    words = ["--temperature", "2", "--bias", ",".join(map(str, bias)), "--no-fp16", "--fp16-weights"]
    assert run(checkpoint, "--out", tmp_path / "out", *words) == 0
    images = {"images": np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)}
    plain, shaped = (cpu_session(f / "model.onnx", 1).run(None, images)[0] for f in (bundle, tmp_path / "out"))
    raw = np.exp(np.log(plain) / 2 + bias)
    np.testing.assert_allclose(shaped, raw / raw.sum(axis=1, keepdims=True), atol=2e-3)
    assert np.abs(shaped - plain).max() > 0.05
    assert (tmp_path / "out" / "model.onnx").stat().st_size < 0.8 * (bundle / "model.onnx").stat().st_size


@pytest.mark.usefixtures("without_tracing")
def test_a_bundle_is_replaced_only_where_that_is_asked_for(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(checkpoint, "--out", tmp_path / "out", "--licence", "first") == 0
    assert run(checkpoint, "--out", tmp_path / "out") == 78
    assert "holds a bundle already; name another folder, or replace it with --replace" in capsys.readouterr().err
    assert read_unsigned_bundle(tmp_path / "out").manifest.licence == "first"
    assert run(checkpoint, "--out", tmp_path / "out", "--replace", "--licence", "second") == 0
    assert read_unsigned_bundle(tmp_path / "out").manifest.licence == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_other_things_is_never_replaced(
    checkpoint: Path, traced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.md").write_text("words")
    assert run(checkpoint, "--out", tmp_path / "thesis", "--replace") == 78
    assert "holds files that are no bundle" in capsys.readouterr().err
    assert run(checkpoint, "--out", tmp_path / "thesis" / "chapter1.md", "--replace") == 78
    assert "is a file" in capsys.readouterr().err
    with pytest.raises(BundleError, match="holds files that are no bundle"):
        write_bundle(tmp_path / "thesis", traced, synthetic_lesion(), None, None)  # type: ignore[arg-type]
    assert (tmp_path / "thesis" / "chapter1.md").read_text() == "words"


def bad_checkpoint(path: Path) -> list[object]:
    path.write_bytes(b"")
    return [path]


def missing_checkpoint(path: Path) -> list[object]:
    return [path]


def thousand_classes(path: Path) -> list[object]:
    state = random_model(VIT_TI_16).state_dict()
    torch.save(state | {"heads.head.weight": torch.ones(1000, 192), "heads.head.bias": torch.ones(1000)}, path)
    return [path]


def bad_golden(path: Path) -> list[object]:
    path.write_bytes(b"\xff\xd8\xff but no JPEG")
    return ["CHECKPOINT", "--golden", path]


def bad_reference(path: Path) -> list[object]:
    path.write_text('{"images": 3}')
    return ["CHECKPOINT", "--reference", path]


def bad_card(path: Path) -> list[object]:
    return ["CHECKPOINT", "--card", path]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (bad_checkpoint, "is empty"),
        (missing_checkpoint, r"cannot be read \(No such file"),
        (thousand_classes, "has 1000 classes, and the product's are 7"),
        (bad_golden, "golden image cannot be decoded"),
        (bad_reference, "a JSON object with these keys is due: images, mean_rgb"),
        (bad_card, "cannot be read as text"),
    ],
)
def test_what_cannot_be_used_is_named_and_leaves_nothing(
    prepare: Callable[[Path], list[object]],
    message: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [checkpoint if word == "CHECKPOINT" else word for word in prepare(tmp_path / "given")]
    assert run(*words, "--out", tmp_path / "models" / "out") == 78
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"{tmp_path / 'given'}: ")
    assert re.search(message, lines[-1])
    assert not list((tmp_path / "models").iterdir() if (tmp_path / "models").exists() else [])


@pytest.mark.parametrize(
    "words",
    [
        ["--threshold", "1.5"],
        ["--temperature", "0"],
        ["--bias", "1,2,3"],
        ["--name", "Two Words"],
        ["--version", "1.0"],
        ["--normalise", "none"],
    ],
)
def test_words_that_make_no_sense_are_refused_at_once(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("model.pt", "--out", "out", *words)
    assert f"argument {words[0]}" in capsys.readouterr().err


def save_with(path: Path, **values: float) -> Path:
    """The small network with vectors of a value and its negative by turns, by the end of their names."""
    state = random_model(SIZES).state_dict()
    for end, value in values.items():
        for name in state:
            if name.endswith(end.replace("__", ".")):
                state[name] = torch.tensor([value, -value]).repeat(len(state[name]) // 2)
    torch.save({"model": state, "config": asdict(SIZES)}, path)
    return path


def test_weights_beyond_fp16_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_with(tmp_path / "vit.pt", encoder_layer_1__ln_2__bias=1e5)
    assert run(path, "--out", tmp_path / "out") == 1
    assert "encoder.layers.encoder_layer_1.ln_2.bias hold values beyond FP16's 65504" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    state = random_model(SIZES).state_dict()
    state["conv_proj.weight"][0, 0, 0, 0] = 1e5
    torch.save({"model": state, "config": asdict(SIZES)}, path)
    assert run(path, "--out", tmp_path / "out", "--no-fp16", "--fp16-weights") == 1
    assert "conv_proj.weight: a value does not fit into float16" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["vit.pt"]


def test_activations_beyond_fp16_are_refused_and_the_way_out_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_with(tmp_path / "vit.pt", mlp__3__bias=40_000.0)
    assert run(path, "--out", tmp_path / "out") == 1
    assert "activations reach 8e+04" in (err := capsys.readouterr().err)
    assert "export with --fp32-residual" in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["vit.pt"]
    assert run(path, "--out", tmp_path / "out", "--fp32-residual", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert any("of FP16's 65504" in warning for warning in told["warnings"])


def test_a_graph_that_answers_otherwise_than_torch_is_no_bundle(
    checkpoint: Path, traced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(model: object, path: Path, **options: object) -> None:
        proto = onnx.load(traced)
        tensor = next(t for t in proto.graph.initializer if t.name.endswith("head.bias"))
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + np.eye(7, dtype="f")[2], tensor.name)
        )
        onnx.save(proto, path)

    monkeypatch.setattr(assemble, "export_onnx", wrong)
    assert run(checkpoint, "--out", tmp_path / "out") == 1
    assert "the exported graph's probabilities differ from torch's by 0." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("without_tracing")
@pytest.mark.parametrize("when", ["before", "while writing"])
def test_a_full_disk_is_told_and_leaves_nothing(
    when: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*words: object, **options: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "out"))

    if when == "before":
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(assemble.shutil, "disk_usage", lambda path: usage)
    else:
        monkeypatch.setattr(assemble, "write_bundle", fail)
    assert run(checkpoint, "--out", tmp_path / "out") == 1
    assert ("are free, and" if when == "before" else "No space left on device") in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_verb_is_light_and_describes_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    told = capsys.readouterr().out
    assert "Exit codes: 0" in told
    assert "78" in told


@pytest.mark.long
@pytest.mark.timeout(600)
def test_vit_b_16_takes_less_than_two_minutes_and_6_gb(tmp_path: Path) -> None:
    """In a process of its own, so that its memory is its own; the tracing of 86 million weights is what costs."""
    torch.save(random_model(ViTConfig()).state_dict(), tmp_path / "vit.pt")
    code = "import argparse, build.commands as c; p = argparse.ArgumentParser(); c.register(p.add_subparsers());"
    code += "a = p.parse_args(); raise SystemExit(a.run(a))"
    words = ["export", str(tmp_path / "vit.pt"), "--out", str(tmp_path / "b" / "1.0.0"), "--json"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["seconds"] < 120
    assert told["peak_memory_mb"] < 6000
    assert told["fp16_against_fp32"]["largest"] < 0.01
