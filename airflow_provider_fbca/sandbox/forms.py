"""The bodies of what a test tells the sandbox, under ``/sandbox``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_fbca.sandbox.faults import Fault
from airflow_provider_fbca.sandbox.settings import ALL_SCOPES


class _Form(BaseModel):
    """A body whose unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid")


class ClockForm(_Form):
    """Moves the clock."""

    advance: float | None = Field(None, ge=0, description="Seconds to go forward.")
    set: float | None = Field(None, description="Instant to go to, in seconds since 1970.")
    running: bool | None = Field(None, description="False stops the clock, true lets it run.")


class FaultForm(_Form):
    """Queues a fault."""

    kind: str
    when: str = Field("before", pattern="^(before|after|late)$")
    operation: str | None = None
    method: str | None = None
    path: str | None = None
    nth: int = Field(1, ge=1)
    count: int = Field(1, ge=1)
    status: int | None = None
    seconds: float | None = Field(None, ge=0)
    lands_after: float = Field(0.0, ge=0)
    size: int = Field(Fault.size, ge=1)
    code: int = 2
    subcode: int | None = None
    is_transient: bool = True
    headers: dict[str, str] = {}
    wait_minutes: int | None = Field(None, ge=0)
    retry_after: int | None = Field(None, ge=0)


class LinkForm(_Form):
    """Makes identifiers one person's, as only Meta could know."""

    identifiers: list[dict[str, str]] = Field(min_length=1, description="Keys and cells, as in a row.")


class SeedForm(_Form):
    """Puts rows in as another tool would."""

    rows: list[dict[str, Any]] = Field(min_length=1)


class AudienceForm(_Form):
    """Changes what an audience pretends to be."""

    operation_status: int | None = Field(None, description="A status code to show; null shows the true one.")
    delivery_status: int | None = Field(None, description="The same for the delivery status.")
    is_huge: bool = Field(default=False, description="Pretend 100 million members.")


class TokenForm(_Form):
    """Makes or changes an access token."""

    token: str = Field(min_length=1)
    accounts: list[str]
    scopes: list[str] = list(ALL_SCOPES)
    expires_in: float | None = Field(None, description="Seconds until it ends, negative for an ended one.")
    data_access_expires_in: float | None = Field(None, description="Seconds until the leave to a person's data ends.")


class SettingsForm(_Form):
    """Changes switches; those left out stay as they are."""

    require_proof: bool | None = None
    tos_accepted: bool | None = None
    apply_delay_seconds: float | None = Field(None, ge=0)
    replace_seconds: float | None = Field(None, ge=0)
    replace_shows_after_seconds: float | None = Field(None, ge=0)
    replace_fails: bool | None = None
    minimum_people: int | None = Field(None, ge=0)
    unknown_calls_after_create: int | None = Field(None, ge=0)
    accept_upper_case_hashes: bool | None = None
    ended_versions: tuple[str, ...] | None = None
    warned_versions: tuple[str, ...] | None = None
    empty_pages: bool | None = None
    latency_seconds: float | None = Field(None, ge=0)
    latency_range: tuple[float, float] | None = None
    fault_ratio: float | None = None
    fault_kinds: tuple[str, ...] | None = None
    fault_seed: int | None = None
    access_tier: str | None = None
    rate_limits: bool | None = None
    score_limits: bool | None = None
    calls_per_hour: int | None = None
    rate_window_seconds: float | None = Field(None, gt=0)
    throttle_status: int | None = Field(None, ge=400, le=599)
    retry_after: bool | None = None
    told_grace_seconds: float | None = Field(None, ge=0)
    max_body_bytes: int | None = Field(None, ge=0)
