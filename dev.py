#!/usr/bin/env python3
"""Sets up a local environment from a lock file, then runs the demo or the tests in it.

Needs Python 3.11 or newer and nothing else. Environments live in .venv/, one per lock file.

    python3 dev.py demo                  the main job: sandbox, warehouse, two refreshes, a summary
    python3 dev.py test [PYTEST ARGS]    lint, types, import rules, all tests
    python3 dev.py run COMMAND ...       any command inside the environment
    python3 dev.py lock                  write the lock files anew
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
LOCKS = ROOT / "requirements"
#: Lock file -> the Airflow in it.
AIRFLOWS = {"3.1": "3.1.8", "3.2": "3.2.2", "3.3": "3.3.2"}
#: What is held below its newest version. 3.2.2 dies in its own models, though it says it can bear a newer FastAPI; 3.3
#: has learnt this bound. In 3.3, the newest Snowflake client and the newest providers of MySQL and Snowflake, which the
#: tests add, refuse newer ones. DuckDB 2 reads otherwise than the DuckDB before it: one lock has each.
HELD = {"3.2": ["fastapi<0.137", "duckdb<2"], "3.3": ["protobuf<7", "pymysql<1.2", "sqlalchemy<2.1"]}
#: The locks that tests add the clients of warehouses to: an older generation of them, and the newest.
CLIENTS = ["3.2", "3.3"]
#: The lock file with the lowest version of each direct dependency, on the oldest Airflow.
LOWEST = "lowest"
OLDEST, DEFAULT = "3.1", "3.3"
#: The tests of what knows Airflow.
RIM = [f"tests/unit/{name}" for name in ("hooks", "operators", "sensors", "triggers", "warehouse")]
RIM += [f"tests/unit/{name}" for name in ("test_documents.py", "test_provider_info.py", "cli/test_ledger_elsewhere.py")]
RIM += ["tests/dags"]


def main() -> int:
    """Read the command line, prepare the environment, run."""
    options = _parse(sys.argv[1:])
    if options.command == "lock":
        return lock()
    python = environment(options.airflow, clients=options.command == "test")
    commands = {
        "demo": lambda: [[python, "-m", "demo", *options.rest]],
        "test": lambda: checks(python, options.rest, airflow=options.airflow),
        "run": lambda: [options.rest],
    }[options.command]()
    return run_all(commands, python)


def checks(python: str, arguments: list[str], *, airflow: str) -> list[list[str]]:
    """Return the commands of the test run; static checks and schedulers once, on the newest Airflow.

    :param arguments: for pytest; with any, pytest alone is run.
    :param airflow: name of the lock file. Older minors test what knows Airflow; the core knows none. The tests that
        take longest by killing processes run on the newest alone, those of warehouses where their clients are.
    """
    tool = Path(python).parent
    static = [
        [f"{tool}/ruff", "check", "."],
        [f"{tool}/ruff", "format", "--check", "."],
        [f"{tool}/mypy"],
        [f"{tool}/lint-imports"],
    ]
    if arguments:
        return [[python, "-m", "pytest", *arguments]]
    tests = RIM if airflow in AIRFLOWS and airflow != DEFAULT else ["tests/unit", "tests/dags"]
    quick = [python, "-m", "pytest", "--numprocesses=auto", "--dist=loadfile", *tests]
    left_out = [] if airflow == DEFAULT else ["kills", "matrix"]
    left_out += [] if airflow in CLIENTS else ["clients"]
    quick += ["-m", " and ".join(f"not {marker}" for marker in left_out)] if left_out else []
    # Real schedulers want the machine for themselves.
    slow = [python, "-m", "pytest", "tests/e2e"]
    return [*static, quick, slow] if airflow == DEFAULT else [quick]


def run_all(commands: list[list[str]], python: str) -> int:
    """Run every command, also after one has failed, and return the first exit code that is not 0."""
    path = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"
    codes = []
    for command in commands:
        print("$", " ".join([Path(command[0]).name, *command[1:]]), flush=True)
        codes.append(subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": path}, check=False).returncode)
    return next((code for code in codes if code), 0)


def environment(name: str, *, clients: bool = False) -> str:
    """Create or update the environment of a lock file and return its Python.

    :param name: of the lock file, without ``airflow-`` and ``.txt``.
    :param clients: add the clients of warehouses, if the lock file has any. Once there, they stay: what does without
        them is not in their way.
    """
    folder = ROOT / ".venv" / f"airflow-{name}"
    locks = [LOCKS / f"airflow-{name}.txt"]
    if not is_installed(folder, locks):
        venv.EnvBuilder(with_pip=False, clear=True, symlinks=True).create(folder)
        install(folder, locks)
    if clients and name in CLIENTS:
        locks += [LOCKS / f"clients-{name}.txt"]
        locks += [LOCKS / "mysqlclient.txt"] if builds_mysqlclient() else []
        if not is_installed(folder, locks):
            install(folder, locks)
    return str(folder / "bin" / "python")


def install(folder: Path, locks: list[Path]) -> None:
    """Make an environment hold what the lock files name, and the package itself, and no more."""
    names = ", ".join(str(each.relative_to(ROOT)) for each in locks)
    print(f"Installing {names} into {folder.relative_to(ROOT)} ...", flush=True)
    uv, python = bootstrap(), folder / "bin" / "python"
    subprocess.run([uv, "pip", "sync", "--quiet", "--python", python, *locks], check=True)
    editable = ["--no-deps", "--no-build-isolation", "--editable", ROOT]
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *editable], check=True)
    stamp(folder, locks).write_text(fingerprint(locks))


def is_installed(folder: Path, locks: list[Path]) -> bool:
    """Tell whether an environment has had these lock files installed, as they are now."""
    written = stamp(folder, locks)
    return written.exists() and written.read_text() == fingerprint(locks)


def stamp(folder: Path, locks: list[Path]) -> Path:
    """Return where an environment says what it holds: a file for the lock of Airflow, one for that with clients."""
    return folder / ("installed" if len(locks) == 1 else "installed-clients")


def fingerprint(locks: list[Path]) -> str:
    """Return a digest of all that decides what an environment holds."""
    files = [*locks, ROOT / "pyproject.toml"]
    return hashlib.sha256(b"".join(each.read_bytes() for each in files) + sys.version.encode()).hexdigest()


def builds_mysqlclient() -> bool:
    """Tell whether this machine has what it takes to build mysqlclient, which has no wheel for Linux."""
    find = ["pkg-config", "--exists"]
    if shutil.which("pkg-config") is None or shutil.which("cc") is None:
        return False
    return any(subprocess.run([*find, name], check=False).returncode == 0 for name in ("libmariadb", "mysqlclient"))


def bootstrap() -> str:
    """Install the installer, pinned, and return its path."""
    folder = ROOT / ".venv" / "bootstrap"
    uv = folder / "bin" / "uv"
    if not uv.exists():
        venv.EnvBuilder(with_pip=True, clear=True, symlinks=True).create(folder)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", LOCKS / "bootstrap.txt"], check=True)
    return str(uv)


def lock() -> int:
    """Resolve each lock file for every platform; no registry address gets into one."""
    uv = bootstrap()
    shared = ["--universal", "--python-version", "3.11", "--quiet"]
    shared += ["--no-header", "--no-annotate", "--no-emit-index-url"]
    sources = [ROOT / "pyproject.toml", LOCKS / "test.in"]
    for name, airflow in AIRFLOWS.items():
        compiled = [uv, "pip", "compile", *shared, *sources, "-", "--output-file", LOCKS / f"airflow-{name}.txt"]
        pins = "\n".join([f"apache-airflow=={airflow}", *HELD.get(name, [])])
        subprocess.run(compiled, check=True, input=pins, text=True, cwd=ROOT)
    lowest = [*compiled[:-1], LOCKS / f"airflow-{LOWEST}.txt", "--resolution", "lowest-direct"]
    pins = "\n".join(locked(OLDEST, test_tools()))
    subprocess.run(lowest, check=True, input=pins, text=True, cwd=ROOT)
    for name in CLIENTS:
        lock_clients(name, [uv, "pip", "compile", *shared])
    return 0


def lock_clients(name: str, compiling: list[str]) -> None:
    """Resolve the clients of warehouses on top of an Airflow's lock: they add to it, and move nothing in it."""
    base, wanted = LOCKS / f"airflow-{name}.txt", LOCKS / f"clients-{name}.in"
    resting = ["--constraints", base, "--excludes", LOCKS / "clients-without.txt"]
    done = subprocess.run([*compiling, wanted, *resting], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    there = {line.partition("==")[0] for line in base.read_text().splitlines()}
    lines = [line for line in done.stdout.splitlines() if line.partition("==")[0] not in there]
    wanted.with_suffix(".txt").write_text("\n".join([*lines, ""]))


def test_tools() -> set[str]:
    """Return the names in test.in: their lowest versions are of no interest."""
    lines = (LOCKS / "test.in").read_text().splitlines()
    return {line.partition("[")[0] for line in lines if line and not line.startswith("#")}


def locked(name: str, packages: set[str]) -> list[str]:
    """Return the lines of a lock file that pin some packages."""
    lines = (LOCKS / f"airflow-{name}.txt").read_text().splitlines()
    return [line for line in lines if line.partition("==")[0] in {*packages, "apache-airflow"}]


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = {"default": DEFAULT, "choices": [*AIRFLOWS, LOWEST], "help": "which lock file (default %(default)s)"}
    parser.add_argument("--airflow", **which)
    parser.add_argument("command", choices=["demo", "test", "run", "lock"])
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
