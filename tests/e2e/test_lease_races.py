"""Two processes race for the lease of one audience, a thousand times on disk and on S3 (rule L8)."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import servers

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e
ROUNDS = {"file": 1000, "s3": 1000, "gs": 200}


@pytest.fixture(params=["disk", "s3", "gs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Gives the URI of a root, and the options of its file system."""
    if request.param == "disk":
        yield f"file://{tmp_path}/ledger", {}
        return
    with {"s3": servers.s3, "gs": servers.gcs}[request.param]() as options:
        yield f"{request.param}://bucket/ledger", options


def test_l8_of_two_processes_that_race_for_the_lease_one_wins_each_time(
    place: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    uri, options = place
    command = [sys.executable, str(Path(servers.__file__).with_name("lease_racer.py")), uri, json.dumps(options)]
    wins = {"one": 0, "other": 0}
    with ExitStack() as stack:
        racers = {
            name: stack.enter_context(
                subprocess.Popen(
                    [*command, str(tmp_path / "witness"), name],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    bufsize=1,
                )
            )
            for name in wins
        }
        for racer in racers.values():
            stack.callback(racer.kill)
            assert racer.stdout.readline() == "ready\n"
        for _ in range(ROUNDS[uri.partition(":")[0]]):
            for racer in racers.values():
                racer.stdin.write("take\n")
            told = {name: racer.stdout.readline() for name, racer in racers.items()}
            assert sorted(told.values()) == ["lost\n", "won\n"]
            (winner,) = (name for name, end in told.items() if end == "won\n")
            racers[winner].stdin.write("release\n")
            assert racers[winner].stdout.readline() == "released\n"
            wins[winner] += 1
    # Each gave the other a race.
    assert min(wins.values()) > 0
