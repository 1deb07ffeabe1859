"""The sandbox inside a test: ``with serve() as sandbox``."""

from __future__ import annotations

import hmac
import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_fbca.sandbox.server import connection_json, listen, make_server, url_of
from airflow_provider_fbca.sandbox.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_provider_fbca.sandbox.clock import Clock

_START_SECONDS = 20.0
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.005
_ANSWER_SECONDS = 600.0


class Sandbox:
    """A running sandbox, as a test sees it.

    :param url: where it listens.
    :param settings: what it was started with.
    """

    def __init__(self, url: str, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        #: Base URL: what goes into the connection's host.
        self.url = url
        #: An access token that works.
        self.token, token = next(iter(settings.tokens.items()))
        #: An ad account of that token, without ``act_``.
        self.ad_account_id = token.accounts[0]
        #: The app of that token, and the key of its proofs.
        self.app_id, self.app_secret = settings.app_id, settings.app_secret
        #: The Airflow connection as JSON, to be set as ``AIRFLOW_CONN_FBCA_DEFAULT``.
        self.connection_json = connection_json(url, settings)
        self._http = requests.Session()
        self._http.trust_env = False

    def create_audience(self, name: str = "Test audience", **details: Any) -> str:
        """Create an audience by the Graph API and return its id.

        :param name: its name.
        :param details: further parameters, such as ``is_value_based=True``.
        """
        url = f"{self.url}/v26.0/act_{self.ad_account_id}/customaudiences"
        body = {"name": name, "subtype": "CUSTOM", "customer_file_source": "USER_PROVIDED_ONLY", **details}
        body["appsecret_proof"] = hmac.new(self.app_secret.encode(), self.token.encode(), "sha256").hexdigest()
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = self._http.post(url, json=body, headers=headers, timeout=_ANSWER_SECONDS)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def audiences(self) -> list[dict[str, Any]]:
        """Return what every audience holds, in numbers."""
        return self._ask("GET", "/audiences")  # type: ignore[no-any-return]

    def audience(self, audience_id: str) -> dict[str, Any]:
        """Return what an audience holds, in numbers: ``people``, ``rows``, ``operation_status``, ``sessions``..."""
        return self._ask("GET", f"/audiences/{audience_id}")  # type: ignore[no-any-return]

    def iter_members(self, audience_id: str) -> Iterator[dict[str, Any]]:
        """Yield an audience's rows, each key -> cell as it was sent, without the blank ones."""
        url = f"{self.url}/sandbox/audiences/{audience_id}/members"
        with self._http.get(url, stream=True, timeout=_ANSWER_SECONDS) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines(chunk_size=1 << 20):
                yield json.loads(line)

    def members(self, audience_id: str) -> list[dict[str, Any]]:
        """Return an audience's rows, each key -> cell as it was sent, without the blank ones."""
        return list(self.iter_members(audience_id))

    def requests(self, operation: str | None = None) -> list[dict[str, Any]]:
        """Return the calls to the Graph API so far, oldest first.

        :param operation: those for this only, such as ``add_users``.
        """
        entries = self._ask("GET", "/requests")
        return [entry for entry in entries if operation in (None, entry["operation"])]

    def usage(self, account_id: str | None = None) -> dict[str, Any]:
        """Return what is used up of an ad account's rate limits: ``calls``, ``quota``, ``score``, ``too_early``...

        :param account_id: :attr:`ad_account_id` by default.
        """
        return self._ask("GET", f"/usage/{account_id or self.ad_account_id}")  # type: ignore[no-any-return]

    def now(self) -> float:
        """Return the present instant on the sandbox's clock."""
        return float(self._ask("GET", "/clock")["now"])

    def advance(self, seconds: float) -> float:
        """Move the clock forward and return the new instant."""
        return float(self._ask("POST", "/clock", advance=seconds)["now"])

    def set_clock(self, instant: float) -> float:
        """Move the clock forward to an instant."""
        return float(self._ask("POST", "/clock", set=instant)["now"])

    def stop_clock(self) -> float:
        """Let time stand still but for :meth:`advance` and return the instant."""
        return float(self._ask("POST", "/clock", running=False)["now"])

    def start_clock(self) -> float:
        """Let time run again."""
        return float(self._ask("POST", "/clock", running=True)["now"])

    def fault(self, kind: str, **options: Any) -> None:
        """Queue a fault.

        :param kind: one of :data:`airflow_provider_fbca.sandbox.kinds.KINDS`, such as ``drop`` or ``graph``.
        :param options: the other fields of :class:`airflow_provider_fbca.sandbox.faults.Fault`: ``when`` it strikes
            ("before" the call is carried out, "after" it, or "late": the call is carried out ``lands_after`` seconds of
            the clock later); ``operation``, ``method`` and ``path`` of the calls to strike; ``nth`` of these to strike
            first and the ``count`` of them; and how the answer looks.
        """
        self._ask("POST", "/faults", kind=kind, **options)

    def clear_faults(self) -> None:
        """Forget faults that have not struck."""
        self._ask("DELETE", "/faults")

    def link(self, *identifiers: Mapping[str, str]) -> None:
        """Make identifiers one person's, as only Meta could know.

        :param identifiers: keys and cells as in a row, such as ``{"EMAIL": "<digest>"}``.
        """
        self._ask("POST", "/links", identifiers=[dict(one) for one in identifiers])

    def seed(self, audience_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Put rows into an audience as another tool would have.

        :param rows: each key -> cell.
        """
        self._ask("POST", f"/audiences/{audience_id}/seed", rows=[dict(row) for row in rows])

    def pretend(
        self,
        audience_id: str,
        *,
        operation_status: int | None = None,
        delivery_status: int | None = None,
        is_huge: bool = False,
    ) -> None:
        """Let an audience show statuses, or pretend 100 million members; without options be true again."""
        statuses = {"operation_status": operation_status, "delivery_status": delivery_status}
        self._ask("POST", f"/audiences/{audience_id}", **statuses, is_huge=is_huge)

    def put_token(self, token: str, accounts: Iterable[str], **options: Any) -> None:
        """Make or change an access token.

        :param token: the token.
        :param accounts: the ad accounts that it sees.
        :param options: ``scopes``, and ``expires_in`` and ``data_access_expires_in`` seconds, negative for what has
            ended.
        """
        self._ask("POST", "/tokens", token=token, accounts=list(accounts), **options)

    def change(self, **switches: Any) -> None:
        """Change settings from now on, such as ``tos_accepted=False``."""
        self._ask("POST", "/settings", **switches)

    def reset(self) -> None:
        """Forget everything but the settings that the sandbox was started with; the clock stays."""
        self._ask("POST", "/reset")

    def _ask(self, verb: str, edge: str, /, **body: Any) -> Any:
        url = f"{self.url}/sandbox{edge}"
        answer = self._http.request(verb, url, json=body or None, timeout=_ANSWER_SECONDS)
        if not answer.ok:
            raise ValueError(f"The sandbox refused {verb} {edge}: {answer.text}")
        return answer.json()


@contextmanager
def serve(settings: Settings | None = None, *, clock: Clock | None = None, port: int = 0) -> Iterator[Sandbox]:
    """Run a sandbox in a thread on this machine's loopback address.

    :param settings: what it starts from.
    :param clock: its time, if the test wants to hold it itself.
    :param port: port to listen at; a free one by default.
    """
    settings = settings or Settings()
    listener = listen("127.0.0.1", port)
    server = make_server(settings, clock)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="fbca-sandbox", daemon=True)
    thread.start()
    try:
        _wait_until_started(server, thread)
        yield Sandbox(url_of(listener), settings)
    finally:
        server.should_exit = True
        thread.join(_STOP_SECONDS)
        listener.close()


def _wait_until_started(server: Any, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("The sandbox did not start.")
        time.sleep(_POLL_SECONDS)
