"""``dermascan engine list | inspect | activate | rollback | keygen | sign | trust``, through the whole command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import engines.commands
from agent import cli
from agent.exits import EXIT_CONFIG
from engines.commands.places import EXIT_DID_NOT_PASS, EXIT_OK
from engines.installed import steps
from engines.installed.activation import commit
from engines.installed.ledger import Ledger
from tests.fakes.bundles import amend, new_version, small_bundle, wrong_golden

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """``dermascan engine ...`` in an empty folder, with these verbs alone, whatever is installed."""
    group = EntryPoint("engine", "engines.commands:register", cli.ENTRY_POINT_GROUP)
    verbs = EntryPoint("lifecycle", "engines.commands.lifecycle:register", engines.commands.ENTRY_POINT_GROUP)
    installed = {entry.group: [entry] for entry in (group, verbs)}
    for module in (cli, engines.commands):
        monkeypatch.setattr(module, "entry_points", lambda group: installed[group])
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: cli.main(["engine", *map(str, words)])


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """For bundles that hold no model."""
    monkeypatch.setattr(steps.activate, "__kwdefaults__", {**steps.activate.__kwdefaults__, "test": lambda _: None})
    monkeypatch.setattr(steps.go_back, "__kwdefaults__", {**steps.go_back.__kwdefaults__, "test": lambda _: None})


def commit_all(models: Path) -> None:
    ledger = Ledger(models)
    provisional = ledger.read().provisional
    assert provisional is not None
    ledger.change(lambda state: commit(state, provisional, "now"))


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out))


def test_the_way_of_a_bundle(
    run: Run, models: Path, demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Key, signature, trust, activation with the real self-test, and back."""
    bundle = Path(shutil.copytree(demo_bundle, tmp_path / "export" / "demo" / demo_bundle.name))
    trust, keys = tmp_path / "trust", tmp_path / "keys"
    keys.mkdir()
    place = ("--models", models, "--trust-dir", trust, "--require-trusted")
    label = f"demo/{demo_bundle.name}"

    assert run("activate", bundle, *place) == EXIT_CONFIG
    assert "refuses it" in capsys.readouterr().err
    assert run("keygen", "acme", "--out", keys, "--json") == EXIT_OK
    made = said(capsys)
    assert run("sign", bundle, "--key", keys / "acme.key", "--json") == EXIT_OK
    assert said(capsys)["key_id"] == made["key_id"]
    assert run("activate", bundle, *place) == EXIT_CONFIG
    assert "engine trust add" in capsys.readouterr().err
    assert run("trust", "add", keys / "acme.pub", "--trust-dir", trust) == EXIT_OK
    assert made["key_id"] in capsys.readouterr().out
    assert run("inspect", bundle, *place, "--json") == EXIT_OK
    shown = said(capsys)
    assert (shown["bundle"], shown["may_run_here"], shown["signer"]["name"]) == (label, True, "acme")
    assert run("activate", bundle, *place) == EXIT_OK
    out = capsys.readouterr().out
    for word in ("staged: ", "verified: ", "self-tested: ", "provisional: "):
        assert f"\n{word}" in f"\n{out}"
    commit_all(models)
    assert run("list", *place, "--json") == EXIT_OK
    listed = said(capsys)
    assert [(entry["label"], entry["role"]) for entry in listed["bundles"]] == [(label, "active")]
    assert listed["activation"]["committed"]["installed"]["bundle"] == label
    assert run("trust", "remove", "acme", "--trust-dir", trust, "--json") == EXIT_OK
    assert said(capsys)["removed"] == "acme"
    assert run("inspect", label, *place) == EXIT_DID_NOT_PASS
    assert "NO: " in capsys.readouterr().out


@pytest.mark.fault("F14")
def test_a_bundle_whose_engine_computes_wrong_numbers_does_not_pass(
    run: Run, models: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_version(demo_bundle, models, "9.0.0", wrong_golden)
    assert run("activate", "demo/9.0.0", "--models", models) == EXIT_DID_NOT_PASS
    captured = capsys.readouterr()
    assert "computes wrong numbers; the active bundle is as it was" in captured.err
    assert "provisional" not in captured.out
    assert run("list", "--models", models) == EXIT_OK
    out = capsys.readouterr().out
    assert "given up" in out
    assert "nothing is active" in out


@pytest.mark.usefixtures("untested")
def test_the_settings_name_the_places(
    run: Run, tmp_path: Path, demo_bundle: Path, write_config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").mkdir()
    small_bundle(demo_bundle, tmp_path / "m" / "demo" / "1.2.0")
    config = write_config((f'bundle = "{demo_bundle}"', 'models = "m"'))
    assert run("activate", "demo/1.2.0", "--config", config, "--json") == EXIT_OK
    captured = capsys.readouterr()
    assert json.loads(captured.out)["candidate"]["stage"] == "provisional"
    assert "self-tested" in captured.err
    shutil.copyfile(config, "agent.toml")  # found by itself where it lies here; its paths are relative to it
    (Path("m")).symlink_to(tmp_path / "m")
    assert run("list") == EXIT_OK
    assert "provisional" in capsys.readouterr().out
    assert run("list", "--require-trusted") == EXIT_OK
    assert "require_trusted" in capsys.readouterr().out
    Path("agent.toml").write_text(config.read_text().replace("require_trusted = false", ""))
    assert run("inspect", "demo/1.2.0") == EXIT_DID_NOT_PASS


@pytest.mark.usefixtures("untested")
def test_rollback(run: Run, models: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--models", models)
    assert run("rollback", *place) == EXIT_CONFIG
    assert "nothing to go back to" in capsys.readouterr().err
    for version in ("1.0.0", "2.0.0"):
        small_bundle(demo_bundle, models / "demo" / version)
        assert run("activate", f"demo/{version}", *place) == EXIT_OK
        commit_all(models)
    assert run("rollback", *place) == EXIT_OK
    assert capsys.readouterr().out.endswith("active: demo/1.0.0\n")
    assert run("rollback", *place, "--json") == EXIT_OK
    assert said(capsys)["committed"]["installed"]["bundle"] == "demo/2.0.0"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("list",), "no settings name a models folder; set inference.models"),
        (("list", "--models", "gone"), "gone: there is no such folder"),
        (("list", "--config", "gone.toml"), "gone.toml: cannot be read (No such file or directory)"),
        (("inspect", "gone"), "gone: there is no such folder"),
        (("sign", "gone", "--demo"), "gone: there is no such folder"),
        (("sign", "gone", "--key", "gone.key"), "gone.key: the key cannot be read"),
        (("keygen", "a/b"), "is no name for a key"),
        (("keygen", "a", "--out", "gone"), "gone: the keys cannot be written"),
        (("keygen", "a", "--passphrase-file", "gone"), "gone: the passphrase cannot be read"),
        (("trust", "list"), "no trust folder is named"),
        (("trust", "add", "gone.pub", "--trust-dir", "t"), "gone.pub: the key cannot be read"),
        (("trust", "remove", "x", "--trust-dir", "t"), "t/x.pub: there is no such key"),
    ],
)
def test_what_cannot_be_used_is_a_sentence_and_78(
    run: Run, words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == EXIT_CONFIG
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[inference\n", "is not valid TOML"),
        ("inference = 1\n", "inference: must be a section"),
        ("[inference]\nmodels = 1\n", "inference.models = 1: not usable"),
        ('[inference]\nrequire_trusted = "no"\n', "inference.require_trusted = 'no': not usable"),
        ('[inference]\nbundle = "b"\n', "inference.bundle names one bundle"),
        ("", "no settings name a models folder"),
    ],
)
@pytest.mark.fault("F24")
def test_settings_that_cannot_be_used_are_named(
    run: Run, text: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("agent.toml").write_text(text)
    assert run("list") == EXIT_CONFIG
    assert sentence in capsys.readouterr().err


@pytest.mark.fault("F15")
def test_what_is_not_whole_is_not_signed(
    run: Run, tmp_path: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = small_bundle(demo_bundle, tmp_path / "demo" / "1.2.0")
    before = (bundle / "signature.json").read_bytes()
    (bundle / "model.onnx").write_bytes(b"another")
    assert run("sign", bundle, "--demo") == EXIT_CONFIG
    assert "was changed or damaged" in capsys.readouterr().err
    (bundle / "model.onnx").write_bytes(b"no model")
    amend(bundle, lambda manifest: manifest["classes"].reverse(), sign=False)
    assert run("sign", bundle, "--demo") == EXIT_CONFIG
    assert "classes must be exactly" in capsys.readouterr().err
    assert (bundle / "signature.json").read_bytes() == before
    amend(bundle, lambda manifest: manifest["classes"].reverse(), sign=False)
    amend(bundle, lambda manifest: manifest.update(licence="another"), sign=False)
    assert run("inspect", bundle) == EXIT_DID_NOT_PASS
    assert run("sign", bundle, "--demo") == EXIT_OK
    assert "it vouches for nothing" in capsys.readouterr().out
    assert run("inspect", bundle) == EXIT_OK


def test_a_passphrase_from_a_file(
    run: Run, tmp_path: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = small_bundle(demo_bundle, tmp_path / "demo" / "1.2.0")
    Path("secret").write_text("correct horse\nnot this line\n")
    assert run("keygen", "acme", "--passphrase-file", "secret") == EXIT_OK
    assert run("sign", bundle, "--key", "acme.key") == EXIT_CONFIG
    assert "is protected by a passphrase" in capsys.readouterr().err
    assert run("sign", bundle, "--key", "acme.key", "--passphrase-file", "secret") == EXIT_OK
    Path("secret").write_text("")
    assert run("sign", bundle, "--key", "acme.key", "--passphrase-file", "secret") == EXIT_CONFIG
    assert "holds no passphrase" in capsys.readouterr().err


def test_the_trust_list_tells_what_is_believed_and_what_is_not(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keygen", "acme") == EXIT_OK
    assert run("trust", "add", "acme.pub", "--trust-dir", "t", "--name", "plant-1") == EXIT_OK
    Path("t/broken.pub").write_text("half a ke")
    capsys.readouterr()
    assert run("trust", "list", "--trust-dir", "t") == EXIT_OK
    captured = capsys.readouterr()
    assert "t: 1 key\n  plant-1  " in captured.out
    assert "the demonstration key is accepted: not for patients" in captured.out
    assert "not believed: t/broken.pub" in captured.err
    assert run("trust", "list", "--trust-dir", "t", "--require-trusted", "--json") == EXIT_OK
    found = said(capsys)
    assert (len(found["keys"]), len(found["faults"]), found["demo_accepted"]) == (1, 1, False)


def test_help_tells_the_exit_codes_and_loads_nothing_heavy(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("list", "inspect", "activate", "rollback", "sign", "keygen", "trust"):
        with pytest.raises(SystemExit) as caught:
            run(verb, "--help")
        assert caught.value.code == 0
        assert "Exit codes: 0 done" in " ".join(capsys.readouterr().out.split())


def test_registering_is_light() -> None:
    import subprocess
    import sys

    heavy = {"rich", "torch", "onnxruntime", "cryptography", "onnx"}
    code = f"import sys, engines.commands.lifecycle; print(sorted({heavy} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
