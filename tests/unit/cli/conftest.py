"""The ``fbca ledger`` commands, over real folders and a local Graph API, after real tasks."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk import ObjectStoragePath
from typer.testing import CliRunner

# The people and the kills of the operators' tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "operators"))

from operator_tools import OPERATORS, FakeTaskInstance, killed

from airflow_provider_fbca.cli.app import app
from airflow_provider_fbca.ledger import AudienceLedger, WorkDir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def audience(sandbox: Any) -> str:
    return sandbox.create_audience()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the ledger, as Airflow's configuration names it."""
    folder = tmp_path / "ledger"
    monkeypatch.setenv("AIRFLOW__FBCA__LEDGER_URI", f"file://{folder}")
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    return folder


@pytest.fixture
def run(root: Path, sandbox: Any) -> Callable[..., Any]:
    """Runs an operator once: ``run("refresh", audience, table, **options)``."""
    stores: dict[str, dict[str, Any]] = {}

    def execute(kind: str, audience: str, users: Any, **options: Any) -> Any:
        operator = OPERATORS[kind](task_id="send", audience_id=audience, users_callable=lambda: users, **options)
        return operator.execute({"ti": FakeTaskInstance(stores.setdefault(audience, {}))})

    return execute


@pytest.fixture
def cli(root: Path) -> Callable[..., Any]:
    """Runs ``fbca ledger`` in this process, and checks its exit code."""

    def call(*arguments: str, code: int = 0, typed: str = "") -> Any:
        result = CliRunner().invoke(app, ["ledger", *arguments], input=typed)
        assert result.exit_code == code, result.output
        return result

    return call


@pytest.fixture
def show(cli: Any) -> Callable[[str], Any]:
    """Gives what ``fbca ledger show --json`` says of one audience."""
    return lambda audience: json.loads(cli("show", audience, "--json").stdout)["audiences"][0]


@pytest.fixture
def members(sandbox: Any) -> Callable[[str], list[Any]]:
    """Gives the rows that an audience holds at Meta, as e-mail digests where they have one."""
    return lambda audience: sorted(row.get("EMAIL") or row.get("PHONE", "") for row in sandbox.members(audience))


@pytest.fixture
def history(root: Path) -> Callable[[str], Any]:
    return lambda audience: AudienceLedger(ObjectStoragePath(f"file://{root}"), audience).history()


@pytest.fixture
def exposure(root: Path, history: Any) -> Callable[[str], set[str]]:
    """Gives every identifier, as hex, of the rows that may be in an audience as far as the ledger knows."""

    def read(audience: str) -> set[str]:
        ledger = AudienceLedger(ObjectStoragePath(f"file://{root}"), audience)
        with WorkDir() as workdir:
            return {
                cell.hex()
                for entry in history(audience).exposure
                for batch in ledger.fetch(entry, workdir).batches()
                for column in batch.columns[1:]
                for cell in column.to_pylist()
                if cell is not None
            }

    return read


@pytest.fixture
def files(root: Path) -> Callable[..., list[str]]:
    """Gives the names of the ledger's files that end in something, leases left out."""
    return lambda ending="": sorted(
        path.name
        for path in root.rglob("*")
        if path.is_file() and path.name.endswith(ending) and not path.name.endswith(".lease.json")
    )


@pytest.fixture
def bytes_of(root: Path) -> Callable[[], bytes]:
    """Gives all cells of all Parquet files of the ledger, and all other files, in one text."""

    def read() -> bytes:
        whole = b""
        for path in root.rglob("*"):
            if path.suffix == ".parquet":
                whole += repr(pq.read_table(path).to_pydict()).encode()
            elif path.is_file():
                whole += path.read_bytes()
        return whole

    return read


@pytest.fixture
def people_file(tmp_path: Path) -> Callable[..., str]:
    """Writes people to a Parquet file and gives its path: ``people_file(email=[...])``."""

    def write(**columns: list[str | None]) -> str:
        path = tmp_path / f"people-{len(list(tmp_path.iterdir()))}.parquet"
        pq.write_table(pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()}), path)
        return os.fspath(path)

    return write


@pytest.fixture
def kills(root: Path, sandbox: Any, tmp_path: Path) -> Callable[..., Iterator[int]]:
    """Kills some work at each of its writes or requests in turn, from the same beginning; yields after each kill.

    The last time it comes to its end. Leases of the dead are taken for expired.
    """

    def each(place: str, work: Callable[[], Any]) -> Iterator[int]:
        before = tmp_path / "before"
        shutil.copytree(root, before)
        held = {audience["id"]: sandbox.members(audience["id"]) for audience in sandbox.audiences()}
        names = [audience["name"] for audience in sandbox.audiences()]
        nth = spared = deaths = 0
        # A write that the store refuses as it should (the proof that it is exclusive) does not get to its end.
        while spared < 2:
            nth += 1
            sandbox.reset()
            assert [sandbox.create_audience(name) for name in names] == list(held)
            for audience, rows in held.items():
                sandbox.seed(audience, rows)
            shutil.rmtree(root)
            shutil.copytree(before, root)
            died = killed(place, nth, work)
            spared, deaths = (0, deaths + 1) if died else (spared + 1, deaths)
            for lease in root.rglob("*.lease.json"):
                lease.unlink()
            yield nth
        assert deaths

    return each
