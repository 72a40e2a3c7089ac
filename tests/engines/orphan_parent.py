"""A parent that starts a worker, says its process id, and then waits to be killed (see test_orphans.py)."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from engines.backend import EngineError
from engines.supervisor import Worker
from tests.fakes import faulty_backend as fake


def main(folder: Path, fault: str) -> None:
    worker = Worker(fake.spec(folder, {"2": fault} if fault else {}), fake.golden())
    worker.start()
    assert worker.wait_ready(20)

    def ask() -> None:
        try:
            worker.run(fake.picture(1), 600)
        except EngineError as error:
            sys.stderr.write(f"{error}\n")

    threading.Thread(target=ask, daemon=True).start()
    while fake.count(folder, "run") < 2:
        time.sleep(0.005)
    sys.stdout.write(f"{worker.pid}\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
