"""``dermascan queue``: what waits for the cloud, what was given up and why, and sending that again."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from agent.exits import EXIT_FAILED, EXIT_OK
from agent.records import spool
from agent.records.errors import StoreError
from agent.records.feedback_command import hand_over
from agent.records.outbox import OutboxStats
from agent.records.reading import QueueRow, list_outbox, outbox_stats

DEFAULT_LIMIT = 50
ALL = "all"
VERBS = ("list", "dead", "retry", "stats")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``dermascan queue``."""
    parser = subparsers.add_parser(
        "queue",
        help="show what waits for the cloud, and send again what was given up",
        description="Shows what the cloud has not confirmed yet. list: what waits, in the order of sending. dead: what "
        "was given up, with the reason. retry ID: send an event again that was given up ('retry all': every one). "
        "stats: how many there are of each (also without a word). Nothing is ever deleted. The agent may run or not.",
        epilog=f"exit status: {EXIT_OK} shown, or the retry is done or kept for the agent; {EXIT_FAILED} no database "
        "that can be read, or no such event was given up; 2 wrong words; 78 wrong configuration",
    )
    parser.add_argument(
        "what", nargs="?", choices=("list", "dead", "retry", "stats"), default="stats", help="see above"
    )
    parser.add_argument("id", nargs="?", metavar="ID", help="of retry: the event's id, or 'all'")
    parser.add_argument(
        "--config", type=Path, default=Path("agent.toml"), metavar="FILE", help="the agent's settings (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="JSON: one object, or for list and dead one on each line")
    parser.add_argument(
        "--limit", type=_limit, default=DEFAULT_LIMIT, metavar="N", help="only the first N, 0 for all (%(default)s)"
    )
    parser.set_defaults(run=lambda arguments: queue(arguments, parser))


def queue(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Show or retry; returns the exit code."""
    from agent.config import load_config

    if (arguments.what == "retry") != (arguments.id is not None):
        parser.error("retry needs the ID of an event, or 'all'" if arguments.id is None else "only retry takes an ID")
    state_dir = load_config(arguments.config).device.state_dir
    try:
        if arguments.what == "retry":
            _retry(state_dir, arguments.id, as_json=arguments.json)
        elif arguments.what == "stats":
            _show_stats(outbox_stats(state_dir), spool.waiting(state_dir), as_json=arguments.json)
        else:
            state = "dead" if arguments.what == "dead" else "waiting"
            _show_rows(list_outbox(state_dir, state, arguments.limit or None), as_json=arguments.json)
    except (StoreError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _retry(state_dir: Path, event_id: str, *, as_json: bool) -> None:
    rows = [row for row in list_outbox(state_dir, "dead") if event_id in {ALL, row.event_id}]
    if not rows:
        what = "no event was given up" if event_id == ALL else f"event {event_id} is none that was given up"
        raise StoreError(f"{what}: dermascan queue dead lists those that were")
    order = spool.RetryOrder(id=spool.new_id(), event_id=None if event_id == ALL else event_id)
    done = hand_over(state_dir, order)
    if as_json:
        print(json.dumps({"events": [row.event_id for row in rows], "done": done}))
    else:
        many = "1 event waits" if len(rows) == 1 else f"{len(rows)} events wait"
        print(f"{many} for the cloud again" if done else "kept: the agent does it as soon as it runs")


def _show_stats(stats: OutboxStats, asked: tuple[int, int], *, as_json: bool) -> None:
    waiting, refused = asked
    if as_json:
        print(json.dumps(asdict(stats) | {"spool_waiting": waiting, "spool_refused": refused}))
        return
    topics = ", ".join(f"{count} {topic}" for topic, count in stats.waiting_by_topic.items())
    print(f"waiting       {stats.waiting}" + (f"  ({topics})" if topics else ""))
    if stats.oldest_waiting_at is not None:
        print(f"  the oldest since {stats.oldest_waiting_at[:19].replace('T', ' ')} UTC")
    print(f"acknowledged  {stats.acknowledged}")
    print(f"dead          {stats.dead}" + ("  (dermascan queue dead says why)" if stats.dead else ""))
    if waiting:
        print(f"spool         {waiting} for the agent to take up")
    if refused:
        print(f"refused       {refused} (state_dir/{spool.SPOOL}/{spool.REFUSED} holds them, each with its reason)")


def _show_rows(rows: list[QueueRow], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            print(json.dumps(asdict(row), ensure_ascii=False))
        return
    if not rows:
        print("none")
        return
    print(f"{'event':36}  {'kind':13}  {'written, UTC':12}  {'bytes':>6}  tries")
    for row in rows:
        kind = row.type.removeprefix("org.dermascan.").rpartition(".")[0]
        written = row.created_at[5:16].replace("T", " ")
        print(f"{row.event_id:36}  {kind:13}  {written:12}  {row.bytes:6}  {row.attempts:5}")
        if row.reason is not None:
            print(f"    {row.reason}")


def _limit(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number
