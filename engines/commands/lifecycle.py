"""``dermascan engine list | inspect | activate | rollback``, and with them ``keygen | sign | trust``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from engines.commands import keys
from engines.commands.places import (
    CODES,
    EXIT_DID_NOT_PASS,
    EXIT_OK,
    add_models_option,
    ledger_from,
    settings_from,
)


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verbs."""
    keys.register(verbs)
    parser = verbs.add_parser(
        "list",
        help="show the installed bundles and which one is active",
        description="Show every bundle in the models folder, after checking signature and hashes. " + CODES,
    )
    _common(parser, show_list)

    parser = verbs.add_parser(
        "inspect",
        help="show what a bundle is and whether it may run here",
        description="Show a bundle's manifest, signer and verification record, and whether it may run here. " + CODES,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="NAME/VERSION in the models folder, or a bundle's folder")
    _common(parser, inspect)

    parser = verbs.add_parser(
        "activate",
        help="take a bundle into use",
        description="Take a bundle into use: staged → verified → self-tested → provisional. A running agent takes it up"
        " within seconds, otherwise it does when it starts: it tries the bundle beside the active one and commits it"
        " after a minute without a fault, or goes back by itself. Killed at any step, the active bundle is as it was. "
        + CODES,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="NAME/VERSION in the models folder, or a folder to copy in")
    parser.add_argument("--again", action="store_true", help="although it was given up before")
    parser.add_argument(
        "--require-verification", action="store_true", help="only with a passed verification record (engine verify)"
    )
    parser.add_argument(
        "--despite", metavar="REASON", help="although its verification failed; the reason and the failure are recorded"
    )
    _common(parser, activate)

    parser = verbs.add_parser(
        "rollback",
        help="go back to the bundle before",
        description="Give up a bundle on trial; without one, go back to the bundle that was active before, after the"
        " same checks. A running agent follows within seconds. " + CODES,
    )
    _common(parser, rollback)


def _common(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    add_models_option(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def show_list(arguments: argparse.Namespace) -> int:
    """Show the models folder."""
    from engines.commands import show
    from engines.installed.catalogue import catalogue

    settings = settings_from(arguments)
    ledger = ledger_from(settings)
    state = ledger.read()
    entries = catalogue(ledger.models, state, settings.trust)
    if arguments.json:
        content = {
            "models": str(ledger.models),
            "bundles": [show.entry_json(entry) for entry in entries],
            "activation": json.loads(state.model_dump_json()),
        }
        print(json.dumps(content, ensure_ascii=False))
    else:
        show.print_list(ledger.models, entries, state)
    return EXIT_OK


def inspect(arguments: argparse.Namespace) -> int:
    """Show one bundle."""
    from engines.backend import BundleError
    from engines.bundle import load_bundle, read_unsigned_bundle
    from engines.commands import show

    settings = settings_from(arguments)
    folder = Path(arguments.bundle)
    if settings.models is not None and (settings.models / arguments.bundle).is_dir():
        folder = settings.models / arguments.bundle
    fault = None
    try:
        bundle = load_bundle(folder, trust=settings.trust)
    except BundleError as error:
        fault = str(error)
        bundle = read_unsigned_bundle(
            folder
        )  # what is in it, although it is not believed; raises where it is not whole
    content = show.bundle_json(bundle, fault)
    if arguments.json:
        print(json.dumps(content, ensure_ascii=False))
    else:
        show.print_bundle(content)
    return EXIT_OK if fault is None else EXIT_DID_NOT_PASS


def activate(arguments: argparse.Namespace) -> int:
    """Take a bundle into use."""
    from engines.installed.steps import DidNotPass, Order
    from engines.installed.steps import activate as take_into_use

    settings = settings_from(arguments)
    order = Order(arguments.bundle, settings.trust, arguments.again, arguments.require_verification, arguments.despite)
    try:
        state = take_into_use(ledger_from(settings), order, tell=_teller(arguments))
    except DidNotPass as error:
        print(error, file=sys.stderr)
        return EXIT_DID_NOT_PASS
    if arguments.json:
        print(state.model_dump_json())
    return EXIT_OK


def rollback(arguments: argparse.Namespace) -> int:
    """Go back."""
    from engines.installed.steps import DidNotPass, go_back

    settings = settings_from(arguments)
    try:
        state = go_back(ledger_from(settings), settings.trust, tell=_teller(arguments))
    except DidNotPass as error:
        print(error, file=sys.stderr)
        return EXIT_DID_NOT_PASS
    if arguments.json:
        print(state.model_dump_json())
    else:
        print(f"active: {state.active.bundle if state.active else 'nothing'}")
    return EXIT_OK


def _teller(arguments: argparse.Namespace) -> Callable[[str], None]:
    """Each step as it is done, on standard output; with ``--json`` that is kept for the result."""

    def tell(sentence: str) -> None:
        print(sentence, file=sys.stderr if arguments.json else sys.stdout, flush=True)

    return tell
