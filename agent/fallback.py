"""The cloud rung as the settings describe it: how the cloud is asked, and under which names of its patients."""

from __future__ import annotations

from agent.config import Config
from agent.privacy import Pseudonyms, read_pseudonyms
from engines.cloud.rung import CloudSettings

CLOUD = "cloud"


def cloud_settings(config: Config) -> CloudSettings | None:
    """How the cloud is asked; None without ``[cloud]``."""
    cloud = config.cloud
    if cloud is None:
        return None
    files = {name: getattr(cloud, name) for name in ("ca", "cert", "key", "token_file")}
    given = {name: str(path) for name, path in files.items() if path is not None}
    return CloudSettings(url=cloud.url, clinic_id=config.device.clinic_id, **given)


def pseudonyms(config: Config) -> Pseudonyms | None:
    """Who makes pseudonyms; None where no rung sends any.

    Raises:
        ConfigError: the clinic's key cannot be used.
    """
    file = config.privacy.pseudonym_key_file
    return read_pseudonyms(file) if file is not None and CLOUD in config.inference.ladder else None
