"""A client of the sandbox that calls it as clients call Meta, and readers of its answers."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from airflow_provider_fbca.sandbox import Sandbox

NOON = 1_800_000_000.0


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Graph:
    """Calls the sandbox as a client of Meta's would: JSON bodies and a bearer header."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.http = requests.Session()
        self.http.trust_env = False
        self.headers = {"Authorization": f"Bearer {sandbox.token}"}

    def call(self, method: str, path: str, *, version: str = "v26.0", **options: Any) -> requests.Response:
        options.setdefault("headers", self.headers)
        options.setdefault("timeout", 30)
        return self.http.request(method, f"{self.sandbox.url}/{version}/{path}", **options)

    def ok(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self.call(method, path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def error(self, method: str, path: str, **options: Any) -> tuple[int, int | None]:
        """Call, check that every error looks as it must, and return its code and subcode."""
        answer = self.call(method, path, **options)
        error = answer.json()["error"]
        assert answer.status_code >= 400
        assert error["message"]
        assert error["type"] in ("OAuthException", "GraphMethodException")
        assert error["fbtrace_id"].startswith("A")
        assert error["is_transient"] in (True, False)
        return error["code"], error.get("error_subcode")

    def upload(
        self, audience: str, schema: Any, data: Any, *, edge: str = "users", method: str = "POST", **session: Any
    ) -> requests.Response:
        body: dict[str, Any] = {"payload": {"schema": schema, "data": data}}
        if session:
            body["session"] = session
        return self.call(method, f"{audience}/{edge}", json=body)

    def add(self, audience: str, schema: Any, data: Any, **session: Any) -> dict[str, Any]:
        return accepted(self.upload(audience, schema, data, **session))

    def remove(self, audience: str, schema: Any, data: Any, **session: Any) -> dict[str, Any]:
        return accepted(self.upload(audience, schema, data, method="DELETE", **session))

    def replace(self, audience: str, schema: Any, data: Any, **session: Any) -> requests.Response:
        return self.upload(audience, schema, data, edge="usersreplace", **session)

    def status(self, audience: str) -> int:
        return self.ok("GET", f"{audience}?fields=operation_status")["operation_status"]["code"]


def accepted(answer: requests.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer: requests.Response) -> tuple[int, int | None]:
    error = answer.json()["error"]
    return error["code"], error.get("error_subcode")


def as_set(members: list[dict[str, Any]]) -> set[frozenset[tuple[str, str]]]:
    return {frozenset((key, str(cell)) for key, cell in row.items()) for row in members}
