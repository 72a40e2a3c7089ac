"""The settings, ``agent.toml``: read once, checked whole, immutable afterwards (F24)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from agent.sections import (
    ApiSection,
    CalibrationSection,
    CloudSection,
    DermoscopeSection,
    DeviceSection,
    ExportSection,
    InferenceSection,
    MqttSection,
    PrivacySection,
    Section,
    StoreSection,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Config", "ConfigError", "DermoscopeSection", "InferenceSection", "MqttSection", "load_config"]

_PATTERN_WORDS: Final = "1 to 64 letters, digits, '-' or '_', starting with a letter or digit"

_HOST_WORDS: Final = "a name or an address, without a scheme"


class ConfigError(Exception):
    """The configuration cannot be used. One line for each fault: file, key, value, what is allowed."""


class Config(Section):
    """The whole file."""

    device: DeviceSection
    dermoscopes: Annotated[tuple[DermoscopeSection, ...], Field(alias="dermoscope", min_length=1, strict=False)]
    inference: InferenceSection
    calibration: CalibrationSection = CalibrationSection()
    store: StoreSection = StoreSection()
    mqtt: MqttSection | None = None
    cloud: CloudSection | None = None
    privacy: PrivacySection = PrivacySection()
    api: ApiSection | None = None
    export: ExportSection | None = None


def _sentence(path: Path, error: ErrorDetails) -> str:
    key = ".".join(f"{part}" for part in error["loc"])
    kind, value = error["type"], error.get("input")
    if kind == "missing":
        return f"{path}: {key}: is missing; add it (agent.example.toml explains every key)"
    if kind == "extra_forbidden":
        return f"{path}: {key}: this version knows no such key; remove it or mend its spelling (see agent.example.toml)"
    allowed = (
        (_HOST_WORDS if "host" in key else _PATTERN_WORDS)
        if kind == "string_pattern_mismatch"
        else error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    )
    return f"{path}: {key} = {value!r}: not usable; allowed is {allowed}"


def _duplicates(path: Path, config: Config) -> list[str]:
    faults = []
    seen: dict[object, str] = {}
    for number, scope in enumerate(config.dermoscopes):
        for key, value in (("id", scope.id), ("folder", scope.folder)):
            if (first := seen.setdefault(value, f"dermoscope.{number}.{key}")) != f"dermoscope.{number}.{key}":
                faults.append(
                    f"{path}: dermoscope.{number}.{key} = {str(value)!r}: also given as {first}; "
                    "each dermoscope needs its own"
                )
        if scope.folder == config.device.state_dir or scope.folder in config.device.state_dir.parents:
            faults.append(
                f"{path}: device.state_dir = {str(config.device.state_dir)!r}: lies in the folder of dermoscope "
                f"{scope.id}; the agent's own files must lie elsewhere"
            )
    return faults


def _model_faults(path: Path, inference: InferenceSection) -> list[str]:
    if inference.bundle is None and inference.models is None:
        return [f"{path}: inference.bundle: is missing; name a bundle's folder, or give inference.models instead"]
    if inference.bundle is not None and inference.models is not None:
        given = f"{path}: inference.models = {str(inference.models)!r}: is given beside inference.bundle"
        return [f"{given}; keep bundle to run that very one, or models to run the one that is active there"]
    return []


def _mqtt_faults(path: Path, mqtt: MqttSection | None) -> list[str]:
    if mqtt is None:
        return []
    faults = []
    if (mqtt.cert is None) != (mqtt.key is None):
        given, missing = ("cert", "key") if mqtt.key is None else ("key", "cert")
        faults.append(f"{path}: mqtt.{missing}: is missing; mqtt.{given} is given, and neither is of use alone")
    if mqtt.ca is None and mqtt.cert is not None:
        faults.append(f"{path}: mqtt.ca: is missing; name the CA whose brokers are believed, or remove mqtt.cert")
    if mqtt.password_file is not None and mqtt.username is None:
        faults.append(f"{path}: mqtt.username: is missing; mqtt.password_file is given, and a password needs a name")
    if mqtt.ca is None and not mqtt.loopback and not mqtt.allow_insecure:
        faults.append(
            f"{path}: mqtt.ca: is missing; {mqtt.host} is not this machine, and without TLS everybody on the way can "
            "read and change what is sent. Give ca, cert and key, or say allow_insecure = true"
        )
    return faults


def _cloud_faults(path: Path, config: Config) -> list[str]:
    faults = []
    cloud = config.cloud
    if cloud is not None:
        if (cloud.cert is None) != (cloud.key is None):
            given, other = ("cert", "key") if cloud.key is None else ("key", "cert")
            faults.append(f"{path}: cloud.{other}: is missing; cloud.{given} needs it beside it")
        if cloud.url.startswith("https:") and cloud.cert is None and cloud.key is None and cloud.token_file is None:
            faults.append(f"{path}: cloud.cert: is missing; give cert and key, or token_file: the cloud must know us")
    if "cloud" in config.inference.ladder:
        if cloud is None:
            faults.append(f'{path}: inference.ladder: names "cloud"; add a [cloud] section, or take the rung out')
        if config.privacy.pseudonym_key_file is None:
            faults.append(
                f"{path}: privacy.pseudonym_key_file: is missing; the cloud is told whose pictures they are by "
                "pseudonyms alone, which need it (agent.example.toml explains it)"
            )
    return faults


def _api_faults(path: Path, api: ApiSection | None) -> list[str]:
    if api is None:
        return []
    if (api.cert is None) != (api.key is None):
        given, other = ("cert", "key") if api.key is None else ("key", "cert")
        return [f"{path}: api.{other}: is missing; api.{given} is given, and neither is of use alone"]
    if api.cert is None and not api.loopback:
        clear = "can be reached by other machines, which would send patients' data in the clear"
        return [f'{path}: api.cert: is missing; {api.host} {clear}. Give cert and key, or host = "127.0.0.1"']
    return []


def _export_faults(path: Path, config: Config) -> list[str]:
    if config.export is None:
        return []
    folder = config.export.folder
    taken = [*(scope.folder for scope in config.dermoscopes), config.device.state_dir]
    return [
        f"{path}: export.folder = {str(folder)!r}: lies in {one}, which the agent itself uses; choose another folder"
        for one in taken
        if folder == one or one in folder.parents
    ]


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: with one line for every fault found.
    """
    try:
        content = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the file with --config FILE") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error
    try:
        config = Config.model_validate(content, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise ConfigError("\n".join(_sentence(path, detail) for detail in error.errors())) from error
    faults = _duplicates(path, config) + _model_faults(path, config.inference)
    faults += _mqtt_faults(path, config.mqtt) + _cloud_faults(path, config)
    if faults := faults + _api_faults(path, config.api) + _export_faults(path, config):
        raise ConfigError("\n".join(faults))
    return config
