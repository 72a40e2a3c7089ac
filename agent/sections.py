"""The sections of ``agent.toml``: what may stand in each, and what is taken where a key is absent (F24)."""

from __future__ import annotations

from dataclasses import fields
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from agent.credentials import handed_over
from calibration.correction.gates import Limits
from engines.settings import TRUST_DIR
from engines.trust.verifying import Trust

Identifier: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
RungName: TypeAlias = Literal["tensorrt", "cloud", "cpu"]
"""The rungs this version has."""
ExportFormat: TypeAlias = Literal["dicom", "fhir", "json"]

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


def _from_file(value: Path, info: ValidationInfo) -> Path:
    """Paths in the file are relative to the file's own folder; a secret's is where the service manager put it."""
    folder = (info.context or {}).get("folder", Path())
    return handed_over(Path(folder, value.expanduser()).absolute())


def _is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine; any other name may be anybody."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


LocalPath: TypeAlias = Annotated[Path, AfterValidator(_from_file)]


class Section(BaseModel):
    """What every section has in common: read once, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DeviceSection(Section):
    """``[device]``: who this device is and where it keeps everything."""

    id: Identifier
    clinic_id: Identifier
    state_dir: Annotated[LocalPath, Field(strict=False)]


class DermoscopeSection(Section):
    """``[[dermoscope]]``: a dermoscope and the folder it writes to."""

    id: Identifier
    folder: Annotated[LocalPath, Field(strict=False)]


class InferenceSection(Section):
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


class StoreSection(Section):
    """``[store]``: how much disk the answers may take."""

    quota_mb: Annotated[int, Field(ge=64, le=1_000_000)] = 8192
    retention_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    """Days after which a scan is reduced to its answer; absent: never for its age."""


class CalibrationSection(Section):
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


class MqttSection(Section):
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
        return _is_loopback(self.host)


class CloudSection(Section):
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


class PrivacySection(Section):
    """``[privacy]``: what stands for patients outside the clinic, and how they are kept on the device."""

    pseudonym_key_file: Annotated[LocalPath, Field(strict=False)] | None = None
    field_key_file: Annotated[LocalPath, Field(strict=False)] | None = None
    """Seals patient fields on this device's disk; absent: they lie there as they are."""


class ApiSection(Section):
    """``[api]``: the local interface and the clinic page. Absent: neither is there."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,253}$")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8440
    """0: any that is free."""
    cert: Annotated[LocalPath, Field(strict=False)] | None = None
    key: Annotated[LocalPath, Field(strict=False)] | None = None
    allowed_hosts: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._:\[\]-]{1,253}$")], ...], Field(strict=False)
    ] = ()
    """Names and addresses, without a port, by which this device is called beside ``host`` itself."""
    max_body_mb: Annotated[int, Field(ge=1, le=1024)] = 32
    requests_per_s: Annotated[float, Field(gt=0.0, le=100_000.0, strict=False)] = 100.0
    """Of one token, on average; bursts of twice as many pass."""

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return _is_loopback(self.host)


class ExportSection(Section):
    """``[export]``: a folder that every answered scan is also written to, for other systems. Absent: none is."""

    folder: Annotated[LocalPath, Field(strict=False)]
    formats: Annotated[tuple[ExportFormat, ...], Field(min_length=1, strict=False)] = ("dicom", "fhir", "json")
