import pytest

from agent.config import load_config
from agent.demo.settings import demo_bundle, write_settings
from engines.backend import BundleError


def test_the_settings_are_ones_that_the_agent_takes(tmp_path):
    state, bundle = tmp_path / 'a "state"', tmp_path / "bündle" / "0.1.0"
    config = load_config(write_settings(state, bundle))
    assert config.device.state_dir.resolve() == state.resolve()
    assert [scope.folder for scope in config.dermoscopes] == [state / "captures"]
    assert config.inference.bundle == bundle
    assert config.inference.ladder == ("cpu",)
    assert (state / "captures").is_dir()


def test_the_settings_say_what_they_are(tmp_path):
    assert "not for clinical use" in write_settings(tmp_path, tmp_path).read_text()


def test_the_highest_version_is_taken(tmp_path):
    for version in ("0.9.0", "0.10.0", "0.2.11", "notes"):
        (tmp_path / "demo" / version).mkdir(parents=True)
    assert demo_bundle(tmp_path).name == "0.10.0"


def test_no_bundle_is_said_plainly(tmp_path):
    with pytest.raises(BundleError, match="holds no bundle"):
        demo_bundle(tmp_path)
