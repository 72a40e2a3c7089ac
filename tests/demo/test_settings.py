from agent.config import load_config
from agent.demo.settings import write_settings


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
