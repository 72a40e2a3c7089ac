"""The settings, ``agent.toml``: read once, checked whole, immutable afterwards (F24)."""

from __future__ import annotations

import sys
from dataclasses import fields
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from calibration.correction.gates import Limits
from engines.settings import TRUST_DIR
from engines.trust.verifying import Trust

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Identifier: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
RungName: TypeAlias = Literal["tensorrt", "cloud", "cpu"]
"""The rungs this version has."""

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_PATTERN_WORDS: Final = "1 to 64 letters, digits, '-' or '_', starting with a letter or digit"


class ConfigError(Exception):
    """The configuration cannot be used. One line for each fault: file, key, value, what is allowed."""


def _from_file(value: Path, info: ValidationInfo) -> Path:
    """Paths in the file are relative to the file's own folder."""
    folder = (info.context or {}).get("folder", Path())
    return Path(folder, value.expanduser()).absolute()


LocalPath: TypeAlias = Annotated[Path, AfterValidator(_from_file)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DeviceSection(_Section):
    """``[device]``: who this device is and where it keeps everything."""

    id: Identifier
    clinic_id: Identifier
    state_dir: Annotated[LocalPath, Field(strict=False)]


class DermoscopeSection(_Section):
    """``[[dermoscope]]``: a dermoscope and the folder it writes to."""

    id: Identifier
    folder: Annotated[LocalPath, Field(strict=False)]


class InferenceSection(_Section):
    """``[inference]``: the model, whose signature on it is believed, and what may run it."""

    bundle: Annotated[LocalPath, Field(strict=False)] | None = None
    """One bundle, whatever is activated; otherwise ``models`` must be given."""
    models: Annotated[LocalPath, Field(strict=False)] | None = None
    """The folder of installed bundles, of which the active one runs."""
    require_trusted: bool = True
    trust_dir: Annotated[LocalPath, Field(strict=False, validate_default=True)] = Path(TRUST_DIR)
    ladder: Annotated[tuple[RungName, ...], Field(min_length=1, strict=False)] = ("cpu",)
    deadline_s: Annotated[float, Field(ge=0.5, le=60.0)] = 3.0

    @property
    def trust(self) -> Trust:
        """Whose signature is believed."""
        return Trust(self.trust_dir, self.require_trusted)


class StoreSection(_Section):
    """``[store]``: how much disk the answers may take."""

    quota_mb: Annotated[int, Field(ge=64, le=1_000_000)] = 8192


class CalibrationSection(_Section):
    """``[calibration]``: what is asked of the dermoscopes' colours."""

    require: bool = False
    """Refuse captures of a dermoscope without a valid profile, instead of answering them with a warning."""
    max_age_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """How long a profile holds that is made from now on."""
    limits: dict[str, Annotated[float, Field(gt=0.0, strict=False)]] = {}
    """Gates of `calibration.correction.gates.Limits` that are to differ; ``dermascan calibrate`` reads them too."""

    @field_validator("limits")
    @classmethod
    def _known_gates(cls, value: dict[str, float]) -> dict[str, float]:
        known = sorted(gate.name for gate in fields(Limits))
        if unknown := [name for name in value if name not in known]:
            raise ValueError(f"gates out of {known}, not {unknown}")
        Limits(**value)
        return value


class MqttSection(_Section):
    """``[mqtt]``: the broker that the cloud listens at. Absent: events wait in the outbox."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,253}$")]
    port: Annotated[int, Field(ge=1, le=65535)] = 8883
    ca: Annotated[LocalPath, Field(strict=False)] | None = None
    """Whose signature on the broker's certificate is believed, and nobody else's. Given: TLS."""
    cert: Annotated[LocalPath, Field(strict=False)] | None = None
    """The device's certificate; its common name is the device's id."""
    key: Annotated[LocalPath, Field(strict=False)] | None = None
    username: str | None = None
    password_file: Annotated[LocalPath, Field(strict=False)] | None = None
    delivery: Literal["cloud-ack", "puback"] = "cloud-ack"
    """Who says that an event has arrived: the cloud, or (where it cannot) the broker, which may lose it (F18)."""
    allow_insecure: bool = False
    """Without TLS to a broker elsewhere than on this machine."""
    backlog_per_s: Annotated[float, Field(gt=0.0, le=1_000_000.0, strict=False)] = 500.0
    """Events a second, at most, of what gathered while there was no connection (F20)."""

    @property
    def loopback(self) -> bool:
        """Whether ``host`` is this machine."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class CloudSection(_Section):
    """``[cloud]``: whom the ``cloud`` rung asks, and how the two know each other."""

    url: str
    ca: Annotated[LocalPath, Field(strict=False)] | None = None
    """Where it is given, nobody else's certificates are believed."""
    cert: Annotated[LocalPath, Field(strict=False)] | None = None
    key: Annotated[LocalPath, Field(strict=False)] | None = None
    token_file: Annotated[LocalPath, Field(strict=False)] | None = None

    @field_validator("url")
    @classmethod
    def _only_a_host(cls, value: str) -> str:
        parts = _split(value)
        if parts is None or parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
            raise ValueError("https://HOST or https://HOST:PORT, with nothing behind")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise ValueError("https:// (http:// only to this very machine: 127.0.0.1, ::1 or localhost)")
        return value.rstrip("/")


def _split(url: str) -> SplitResult | None:
    """A URL's parts; None where it has no usable scheme, host or port."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return parts if usable and url.isprintable() and " " not in url else None


class PrivacySection(_Section):
    """``[privacy]``: what stands for patients outside the clinic."""

    pseudonym_key_file: Annotated[LocalPath, Field(strict=False)] | None = None


class Config(_Section):
    """The whole file."""

    device: DeviceSection
    dermoscopes: Annotated[tuple[DermoscopeSection, ...], Field(alias="dermoscope", min_length=1, strict=False)]
    inference: InferenceSection
    calibration: CalibrationSection = CalibrationSection()
    store: StoreSection = StoreSection()
    mqtt: MqttSection | None = None
    cloud: CloudSection | None = None
    privacy: PrivacySection = PrivacySection()


def _sentence(path: Path, error: ErrorDetails) -> str:
    key = ".".join(f"{part}" for part in error["loc"])
    kind, value = error["type"], error.get("input")
    if kind == "missing":
        return f"{path}: {key}: is missing; add it (agent.example.toml explains every key)"
    if kind == "extra_forbidden":
        return f"{path}: {key}: this version knows no such key; remove it or mend its spelling (see agent.example.toml)"
    allowed = (
        _PATTERN_WORDS
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
    if faults := faults + _mqtt_faults(path, config.mqtt) + _cloud_faults(path, config):
        raise ConfigError("\n".join(faults))
    return config
