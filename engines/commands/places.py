"""The options that say where bundles lie and whose signature is believed, for every engine command that loads one."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Final

from engines.backend import BundleError
from engines.installed.ledger import Ledger
from engines.settings import ModelSettings, read_model_settings
from engines.trust.verifying import DEMO_TRUST, Trust

CONFIG_NAME: Final = "agent.toml"
EXIT_OK: Final = 0
EXIT_DID_NOT_PASS: Final = 2
"""The bundle is not fit to run here; the settings are right."""
CODES: Final = "Exit codes: 0 done, 2 the bundle did not pass, 78 the settings, a file or the bundle cannot be used."


def add_trust_options(parser: argparse.ArgumentParser) -> None:
    """``--config``, ``--trust-dir`` and ``--require-trusted``."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"the agent's settings (default: {CONFIG_NAME}, where there is one)"
    )
    parser.add_argument(
        "--trust-dir", type=Path, metavar="DIR", help="the public keys that are believed, instead of the settings'"
    )
    parser.add_argument(
        "--require-trusted", action="store_true", help="refuse the demonstration key, whatever the settings say"
    )


def add_models_option(parser: argparse.ArgumentParser) -> None:
    """``--models`` beside the trust options."""
    parser.add_argument("--models", type=Path, metavar="DIR", help="the models folder, instead of the settings'")
    add_trust_options(parser)


def settings_from(arguments: argparse.Namespace) -> ModelSettings:
    """The settings, with what the options say instead. Without either, the demonstration key alone is believed.

    Raises:
        BundleError: the settings file cannot be used.
    """
    config: Path | None = arguments.config
    if config is None and Path(CONFIG_NAME).is_file():
        config = Path(CONFIG_NAME)
    settings = ModelSettings(None, None, DEMO_TRUST) if config is None else read_model_settings(config)
    trust = Trust(
        arguments.trust_dir or settings.trust.folder, settings.trust.require_trusted or arguments.require_trusted
    )
    models: Path | None = getattr(arguments, "models", None)
    if models is not None:
        return ModelSettings(None, models, trust)
    return replace(settings, trust=trust)


def trust_from(arguments: argparse.Namespace) -> Trust:
    """Whose signature is believed; see :func:`settings_from`."""
    return settings_from(arguments).trust


def ledger_from(settings: ModelSettings) -> Ledger:
    """The models folder's ledger.

    Raises:
        BundleError: there is no models folder.
    """
    if settings.models is None:
        why = "no settings name a models folder"
        if settings.bundle is not None:
            why = f"inference.bundle names one bundle, {settings.bundle}, so none is chosen from a models folder"
        raise BundleError(f"{why}; set inference.models in the settings, or give --models DIR")
    if not settings.models.is_dir():
        raise BundleError(f"{settings.models}: there is no such folder; make it, or give another with --models DIR")
    return Ledger(settings.models)
