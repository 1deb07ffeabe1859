"""What every test needs: an Airflow home of its own, set before anything imports Airflow.

A stale configuration of another Airflow version would poison the run, and tests must leave nothing in the user's home.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

_HOME = Path(tempfile.mkdtemp(prefix="fbca-tests-"))
os.environ.update(
    {
        "AIRFLOW_HOME": str(_HOME),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent.parent / "dags_examples"),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
)
for _name in [name for name in os.environ if name.startswith(("FB_", "AIRFLOW_CONN_", "AIRFLOW__FBCA__"))]:
    del os.environ[_name]


@pytest.fixture(autouse=True)
def _fresh_budgets() -> None:
    """Forget rate limits: a limit of one test's server would hold up the next test's calls."""
    from airflow_provider_fbca.graph.throttle import forget_budgets

    forget_budgets()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run in which a test was skipped, where nothing may be (``FBCA_NO_SKIPS``, set in CI)."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter else 0
    if skipped and os.environ.get("FBCA_NO_SKIPS") and exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"{skipped} tests were skipped, and FBCA_NO_SKIPS is set.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how many processes the tests have killed, which they left as their property ``kills``."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    # A report has what was recorded before it, so the last of a test has all.
    last = [report.user_properties for report in reports if getattr(report, "when", None) == "teardown"]
    if kills := sum(number for properties in last for name, number in properties if name == "kills"):
        terminalreporter.write_line(f"kills: {kills}")


# Machines are noisy: an example that takes long says nothing about the code.
settings.register_profile("fbca", deadline=None)
settings.load_profile("fbca")
