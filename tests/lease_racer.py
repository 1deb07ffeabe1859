"""One of two processes that race for a lease; told by lines what to do, it tells by lines what came of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

# As in tests/servers.py: before gcsfs is imported.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

from upath import UPath

from airflow_provider_fbca.ledger import AudienceLedger, LeaseTerms


class OthersError(Exception):
    """The lease is another's."""


def wait_for_nobody(_seconds: float) -> None:
    raise OthersError


def main() -> None:
    """Race on each line ``take``; the winner holds until the line ``release``."""
    uri, options, witness, name = sys.argv[1:]
    ledger = AudienceLedger(UPath(uri, **json.loads(options)), "120210000000000001")
    print("ready", flush=True)
    for line in sys.stdin:
        if line != "take\n":
            raise ValueError(line)
        try:
            with ledger.lease({"name": name}, LeaseTerms(180, 90), pause=wait_for_nobody) as lease:
                # Fails where the other is inside.
                with Path(witness).open("x"):
                    pass
                lease.check()
                print("won", flush=True)
                sys.stdin.readline()
                lease.check()
                Path(witness).unlink()
            print("released", flush=True)
        except OthersError:
            print("lost", flush=True)


if __name__ == "__main__":
    main()
