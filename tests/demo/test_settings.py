from agent.config import load_config
from agent.demo.settings import write_settings


def test_the_settings_are_ones_that_the_agent_takes(tmp_path):
    state, bundle = tmp_path / 'a "state"', tmp_path / "bündle" / "0.1.0"
    config = load_config(write_settings(state, bundle, None))
    assert config.device.state_dir.resolve() == state.resolve()
    assert [scope.folder for scope in config.dermoscopes] == [state / "captures"]
    assert config.inference.bundle == bundle
    assert config.inference.ladder == ("cpu",)
    assert (state / "captures").is_dir()
    assert config.mqtt is None


def test_with_a_broker_the_agent_is_told_where(tmp_path):
    mqtt = load_config(write_settings(tmp_path, tmp_path, 12345)).mqtt
    assert (mqtt.host, mqtt.port, mqtt.delivery) == ("127.0.0.1", 12345, "cloud-ack")
    assert mqtt.loopback
    assert mqtt.ca is None
    assert not mqtt.allow_insecure


def test_the_settings_say_what_they_are(tmp_path):
    assert "not for clinical use" in write_settings(tmp_path, tmp_path, None).read_text()
