"""What the sandbox is made of when it starts: tokens, ad accounts and switches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_fbca.sandbox.kinds import check_kinds
from airflow_provider_fbca.sandbox.rates import TIERS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: The access token that a sandbox accepts unless it is told otherwise.
DEMO_TOKEN = "fbca-sandbox-token"  # noqa: S105 - it opens nothing but this sandbox
#: The ad account of :data:`DEMO_TOKEN`.
DEMO_AD_ACCOUNT_ID = "100000000000001"
#: A second ad account of :data:`DEMO_TOKEN`.
OTHER_AD_ACCOUNT_ID = "100000000000002"
#: The app that :data:`DEMO_TOKEN` belongs to.
DEMO_APP_ID = "200000000000001"
#: The key that app proofs are made with.
DEMO_APP_SECRET = "fbca-sandbox-app-secret"  # noqa: S105 - it opens nothing but this sandbox
#: The permissions that work on audiences needs, and those that tokens in the field also carry.
ALL_SCOPES = ("ads_management", "ads_read", "business_management")
#: What random faults are unless they are told otherwise: what passes, and takes no time.
PASSING_KINDS = (
    "drop",
    "reset",
    "cut",
    "server_error",
    "html_ok",
    "empty",
    "truncated_json",
    "error_in_200",
    "graph",
)


@dataclass(frozen=True)
class Account:
    """An ad account.

    :param account_id: digits, without ``act_``.
    :param name: shown by ``/me/adaccounts``.
    :param tos_accepted: whether a person has accepted the Custom Audience terms for it.
    """

    account_id: str
    name: str = "Sandbox ad account"
    tos_accepted: bool = True


@dataclass(frozen=True)
class Token:
    """What an access token may do.

    :param accounts: ids of the ad accounts it sees, without ``act_``.
    :param scopes: its permissions.
    :param expires_at: when it ends on the sandbox's clock, in seconds since 1970; None is never.
    :param user_id: whom ``/me`` names.
    :param data_access_expires_at: when the app may see the person's data no more, for ``debug_token``; None is never.
    """

    accounts: tuple[str, ...]
    scopes: tuple[str, ...] = ALL_SCOPES
    expires_at: float | None = None
    user_id: str = "300000000000001"
    data_access_expires_at: float | None = None


def _demo_accounts() -> tuple[Account, ...]:
    return (Account(DEMO_AD_ACCOUNT_ID), Account(OTHER_AD_ACCOUNT_ID, name="Second sandbox ad account"))


def _demo_tokens() -> Mapping[str, Token]:
    return {DEMO_TOKEN: Token(accounts=(DEMO_AD_ACCOUNT_ID, OTHER_AD_ACCOUNT_ID))}


@dataclass(frozen=True)
class Settings:
    """How a sandbox behaves; ``POST /sandbox/settings`` changes the switches while it runs.

    :param accounts: the ad accounts that exist.
    :param tokens: access token -> what it may do. Any other token is refused.
    :param app_id: the app of all tokens.
    :param app_secret: the key of ``appsecret_proof``.
    :param require_proof: refuse calls without ``appsecret_proof``.
    :param tos_accepted: False withdraws the Custom Audience terms for all accounts.
    :param apply_delay_seconds: clock time between accepting an addition or a removal and applying it.
    :param replace_seconds: clock time that a replace works after its last batch.
    :param replace_shows_after_seconds: clock time from the first batch of a replace until the audience knows of it: its
        status is as before, and people are added and removed whom the replace then overwrites.
    :param replace_fails: replaces end with status 415 and change nothing.
    :param minimum_people: a removal that would leave fewer people is refused with 200/1870047.
    :param unknown_calls_after_create: how many calls to a new audience fail with 803.
    :param accept_upper_case_hashes: take upper-case hex; what Meta does is not documented.
    :param ended_versions: API versions that answer 2635.
    :param warned_versions: API versions that answer with ``X-Ad-Api-Version-Warning``.
    :param empty_pages: put an empty page with a ``next`` before each page of a list.
    :param latency_seconds: real time before each answer, so that a benchmark sees a distant server.
    :param latency_range: least and most real seconds before each answer, drawn by ``fault_seed``, on top of these.
    :param fault_ratio: share of calls to the Graph API that a random fault strikes, before they are carried out or
        after, where no queued one does.
    :param fault_kinds: the kinds of these.
    :param fault_seed: gives the same faults again, for the same order of calls.
    :param access_tier: of the app, ``full`` or ``limited``: how much it may call.
    :param rate_limits: refuse calls to an ad account over the limit of calls; the usage headers tell it in any case.
    :param score_limits: refuse calls to an ad account whose score is full.
    :param calls_per_hour: the limit of calls to an ad account in a window; None for what the tier has.
    :param rate_window_seconds: the window, in clock time.
    :param throttle_status: HTTP status of calls refused over a limit; Meta's is not documented.
    :param retry_after: send ``Retry-After`` with them, which Meta does not document.
    :param told_grace_seconds: real time from telling of a limit during which calls count as sent before it was heard;
        for clients with several calls in flight.
    :param count_only: check the shape of uploads and count, but hold nobody, for benchmarks.
    :param max_body_bytes: larger bodies get an HTML page with status 413.
    :param spool_dir: folder of the temporary files that hold large audiences' rows; the system's by default.
    """

    accounts: tuple[Account, ...] = field(default_factory=_demo_accounts)
    tokens: Mapping[str, Token] = field(default_factory=_demo_tokens, repr=False)
    app_id: str = DEMO_APP_ID
    app_secret: str = field(default=DEMO_APP_SECRET, repr=False)
    require_proof: bool = False
    tos_accepted: bool = True
    apply_delay_seconds: float = 0.0
    replace_seconds: float = 1.0
    replace_shows_after_seconds: float = 0.0
    replace_fails: bool = False
    minimum_people: int = 0
    unknown_calls_after_create: int = 0
    accept_upper_case_hashes: bool = False
    ended_versions: tuple[str, ...] = ()
    warned_versions: tuple[str, ...] = ()
    empty_pages: bool = False
    latency_seconds: float = 0.0
    latency_range: tuple[float, float] = (0.0, 0.0)
    fault_ratio: float = 0.0
    fault_kinds: tuple[str, ...] = PASSING_KINDS
    fault_seed: int = 0
    access_tier: str = "full"
    rate_limits: bool = False
    score_limits: bool = False
    calls_per_hour: int | None = None
    rate_window_seconds: float = 3600.0
    throttle_status: int = 400
    retry_after: bool = False
    told_grace_seconds: float = 0.0
    count_only: bool = False
    max_body_bytes: int = 64 * 1024 * 1024
    spool_dir: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        :raises ValueError: with what is wrong.
        """
        check_kinds(self.fault_kinds)
        if not 0 <= self.fault_ratio <= 1 or not self.fault_kinds:
            raise ValueError("fault_ratio is a share from 0 to 1, of faults of at least one kind.")
        if not 0 <= self.latency_range[0] <= self.latency_range[1]:
            raise ValueError("latency_range is the least and the most seconds.")
        if self.access_tier not in TIERS:
            raise ValueError(f"access_tier is one of {', '.join(TIERS)}.")
        if self.calls_per_hour is not None and self.calls_per_hour < 1:
            raise ValueError("calls_per_hour is at least 1.")
