"""Random answers of a Graph API, and what must hold for each of them.

    python -m tests.fuzz_answers 100000 [--seed 1]

Whatever comes back, in whatever status, headers and bytes: a call ends in its result or in a documented error, a
success only where every request that it counts was answered with one (2xx, a JSON object, no ``error``), and no error's
text holds a token, a proof or a person. A failure prints the number of its case: ``--only`` runs it again.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import random
import sys
import tempfile
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from requests.structures import CaseInsensitiveDict

from airflow_provider_fbca.exceptions import GraphError, GraphThrottledError
from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.graph.audiences import Audiences
from airflow_provider_fbca.graph.errors import REPLACE_FINISHED, RULES
from airflow_provider_fbca.graph.readiness import Wanted
from airflow_provider_fbca.graph.retry import RetryPolicy
from airflow_provider_fbca.graph.throttle import forget_budgets
from airflow_provider_fbca.graph.transport import Answer
from airflow_provider_fbca.graph.upload import UserUploader
from airflow_provider_fbca.graph.usage import LONGEST_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_fbca.graph.transport import Request

TOKEN = "EAABsecretTOKENsecretTOKENsecret1234567890"
SECRET = "0123456789abcdef0123456789abcdef"
AUDIENCE, ACCOUNT = "120210000000000001", "100000000000001"
PERSON = bytes(range(100, 132))
EXTERN_ID = "mary.example-4711"
PRIVATE = (TOKEN, SECRET, PERSON.hex(), EXTERN_ID)
ROWS = pa.record_batch(
    {"EXTERN_ID": [EXTERN_ID, "b", "c"], "EMAIL": pa.array([PERSON, bytes(32), bytes(32)], pa.binary(32))}
)

STATUSES = [200, 200, 200, 200, 201, 204, 206, 302, 400, 400, 400, 401, 403, 404, 413, 429, 500, 502, 503, 599]
CODES = [*sorted({rule.code for rule in RULES if rule.code}), -1, 0, 4242, 299]
SUBCODES = [*sorted({rule.subcode for rule in RULES if rule.subcode}), None, 0, 77]
#: Values of every type, and of sizes that nobody expects.
ODD = [
    *(None, True, False, 0, -1, 1, 2**63, 10**400, 1.5, -0.0, 1e308, math.inf, -math.inf, math.nan),
    *("", "0", "17", "x", "NaN", "1e999", "\ud800", "\0", "é" * 50, "9" * 5000, EXTERN_ID, PERSON.hex(), TOKEN),
    *([], {}, [[]], [None], {"": {}}, {"code": "4"}, ["error"], [{"error": {}}]),
]
#: What Meta sends, for all that is asked here.
SAMPLES: list[dict[str, Any]] = [
    {
        "audience_id": AUDIENCE,
        "session_id": "7",
        "num_received": 3,
        "num_invalid_entries": 0,
        "invalid_entry_samples": [],
    },
    {"account_id": AUDIENCE, "num_received": 3, "num_invalid_entries": 1, "invalid_entry_samples": {EXTERN_ID: "no"}},
    {"id": AUDIENCE},
    {"id": AUDIENCE, "account_id": ACCOUNT, "name": "x", "subtype": "CUSTOM", "retention_days": 30},
    {"id": AUDIENCE, "operation_status": {"code": 200, "description": ""}, "time_content_updated": 1755083943},
    {"operation_status": {"status": 414}, "time_content_updated": "1755083943", "id": AUDIENCE},
    {"data": [{"id": AUDIENCE, "name": "x", "session_id": "7", "stage": "finished", "progress": "100"}]},
    {"data": [], "paging": {"next": f"https://x/?access_token={TOKEN}&after=b", "cursors": {"after": "b"}}},
    {"data": {"app_id": "1", "is_valid": True, "expires_at": 0, "scopes": ["ads_management"]}},
    {"data": {"is_valid": False, "error": {"code": 190, "subcode": 463}}},
    {"access_token": "another", "token_type": "bearer", "expires_in": 5_184_000},
    {"success": True},
    {"success": False},
]
USAGE = {
    "X-Business-Use-Case-Usage": {
        "1": [{"type": "custom_audience", "call_count": 40, "total_time": 9, "estimated_time_to_regain_access": 0}]
    },
    "X-Ad-Account-Usage": {
        "acc_id_util_pct": 9.67,
        "reset_time_duration": 100,
        "ads_api_access_tier": "limited_access",
    },
    "X-App-Usage": {"call_count": 28, "total_time": 25, "total_cputime": 25},
}
RETRY_AFTER = ["", "0", "7", "120", "-1", "1e9", "9" * 500, "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 99 Xxx 0", "\u0663"]


def changed(pick: random.Random, value: Any) -> Any:
    """A value with odd ones in random places."""
    if pick.random() < 0.12:
        return pick.choice(ODD)
    if isinstance(value, dict):
        return {name: changed(pick, member) for name, member in value.items() if pick.random() > 0.05}
    if isinstance(value, list):
        return [changed(pick, member) for member in value * pick.choice([1, 1, 2])]
    return value


def an_error(pick: random.Random) -> dict[str, Any]:
    quote = f"Invalid row ['{EXTERN_ID}', '{PERSON.hex()}'] of {TOKEN}"
    error = {
        "message": pick.choice(["(#100) words", quote, "appsecret_proof", ""]),
        "type": "OAuthException",
        "code": pick.choice(CODES),
        "error_subcode": pick.choice(SUBCODES),
        "error_user_title": pick.choice(["A title", quote]),
        "is_transient": pick.choice([True, False, None]),
        "fbtrace_id": pick.choice(["AbC-1_", TOKEN + "!", None]),
        "error_data": quote,
    }
    return {"error": changed(pick, error)}


def a_body(pick: random.Random) -> bytes:
    kind = pick.random()
    if kind < 0.35:
        value = pick.choice(SAMPLES)
    elif kind < 0.5:
        value = changed(pick, pick.choice(SAMPLES))
    elif kind < 0.75:
        value = an_error(pick)
    elif kind < 0.8:
        value = pick.choice(ODD)
    elif kind < 0.85:
        return pick.choice([b"[", b'{"error":', b'{"a":[', b'{"data":']) * pick.choice([1, 50, 900, 5000, 100_000])
    else:
        return pick.choice(
            [b"", b"null", b"<html>Sorry</html>", b"\xff\xfe", b"\x1f\x8b\x08", b"{} {}", b"{}\0", b"\0"]
        )
    text = json.dumps(value, ensure_ascii=pick.random() < 0.5)
    body = text.encode("utf-8", "surrogatepass")
    if pick.random() < 0.1:
        body = text.encode(pick.choice(["utf-16", "utf-32", "utf-8-sig"]), "surrogatepass")
    if pick.random() < 0.15:
        place = pick.randrange(len(body) + 1)
        body = pick.choice([body[:place], body[:place] + pick.randbytes(2) + body[place + 1 :], body + body])
    return body


def some_headers(pick: random.Random) -> CaseInsensitiveDict[str]:
    headers: CaseInsensitiveDict[str] = CaseInsensitiveDict()
    for name, usage in USAGE.items():
        if pick.random() < 0.4:
            full = json.dumps(changed(pick, usage))
            for number in ("40", "9.67", "28"):
                full = full.replace(number, str(pick.choice([0, 50, 76, 91, 100, 1e300])), 1)
            headers[name] = full if pick.random() < 0.8 else full[: pick.randrange(len(full) + 1)]
    if pick.random() < 0.1:
        headers["Retry-After"] = pick.choice(RETRY_AFTER)
    if pick.random() < 0.05:
        headers["X-Ad-Api-Version-Warning"] = "old"
    return headers


def an_answer(pick: random.Random) -> Answer:
    return Answer(pick.choice(STATUSES), some_headers(pick), a_body(pick))


def says_success(answer: Answer) -> bool:
    """What Meta's documentation calls a success, told without the client's code."""
    if answer.status // 100 != 2:
        return False
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "error" not in value and value.get("success") is not False


class Wire:
    """In the place of HTTP: answers at random, and notes what it has answered."""

    longest_flight = 1.0

    def __init__(self, pick: random.Random) -> None:
        self.pick = pick
        self.told: list[tuple[Request, Answer]] = []
        # Sometimes Meta is well but for a few answers, so that calls get further.
        self.oddness = pick.choice([1.0, 0.5, 0.1])

    def exchange(self, request: Request) -> Answer:
        good = {
            "num_received": 1,
            "id": AUDIENCE,
            "account_id": ACCOUNT,
            "subtype": "CUSTOM",
            "data": [],
            "access_token": "x",
        }
        answer = an_answer(self.pick)
        if self.pick.random() >= self.oddness:
            answer = Answer(200, answer.headers, json.dumps({**good, "access_token": "x"}).encode())
        self.told.append((request, answer))
        return answer


class Clock:
    """Time that only waiting moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert 0 <= seconds <= 2 * LONGEST_WAIT
        self.now += seconds


def calls(api: GraphApi, clock: Clock) -> dict[str, Callable[[], object]]:
    # Airflow reads its home as it is imported.
    from airflow_provider_fbca.hooks import tokens
    from airflow_provider_fbca.hooks.credentials import Credentials
    from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook

    uploader = UserUploader(
        api, AUDIENCE, batch_size=1, max_concurrency=1, new_session=lambda: 7, clock=clock, sleep=clock.sleep
    )
    audiences = Audiences(api)
    hook = FacebookCustomAudienceHook()
    hook.__dict__ |= {"credentials": Credentials(TOKEN), "_api": api}
    return {
        "add": lambda: uploader.add([ROWS], total=3),
        "remove": lambda: uploader.remove([ROWS], total=3),
        "replace": lambda: uploader.replace([ROWS], total=3),
        "watch": lambda: uploader.watch_replaces((7,), 60),
        "erase": lambda: uploader.erase([ROWS], account_id=ACCOUNT),
        "create": lambda: audiences.create(ACCOUNT, name="x"),
        "find": lambda: audiences.find(ACCOUNT, "x"),
        "read": lambda: audiences.get(AUDIENCE),
        "account": lambda: audiences.account_of(AUDIENCE),
        "terms": lambda: audiences.terms_accepted(ACCOUNT),
        "look": lambda: hook.look_at(AUDIENCE, Wanted(updated_after=1_755_083_943.0)),
        "ready": lambda: hook.ready_audience(AUDIENCE),
        "delete": lambda: audiences.delete(AUDIENCE),
        "debug_token": audiences.token_info,
        "check_token": lambda: tokens.check(api, audiences),
        "exchange": lambda: tokens.exchange(api, "77", SECRET),
        "sdk": lambda: api.call("GET", (AUDIENCE,), {"fields": "name"}).json(),
    }


def check_success(operation: str, wire: Wire) -> None:
    """Every batch must have been answered with success in the end; other calls in their last answer."""
    last: dict[object, list[Answer]] = {}
    for request, answer in wire.told:
        key: object = None
        if operation in {"add", "remove", "replace", "erase"}:
            sent = json.loads(request.body or b"{}")
            key = json.dumps(sent["payload"]["data"])
        last.setdefault(key, []).append(answer)
    assert last, "a success of nothing"
    for answers in last.values():
        if says_success(answers[-1]):
            continue
        told = json.loads(answers[-1].body)["error"]
        # An earlier try without an answer had landed: it closed the session, or deleted the audience.
        finished = str(told.get("error_subcode")) == str(REPLACE_FINISHED)
        landed = len(answers) > 1 and (operation == "delete" or finished)
        assert landed, "a false success"


def check_error(error: GraphError) -> None:
    text = str(error) + repr(error) + repr(vars(error))
    assert not [private for private in PRIVATE if private in text], "a secret"
    assert error.remedy, "no remedy"
    assert isinstance(error.permanent, bool)
    if isinstance(error, GraphThrottledError):
        assert 0 <= error.wait_seconds <= LONGEST_WAIT
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
        assert isinstance(error, GraphError), f"{type(error).__name__} behind it"


def run_case(number: int, seed: int) -> tuple[str, str]:
    """Run one case and return its operation and outcome."""
    pick = random.Random(f"{seed} {number}")
    forget_budgets()
    clock = Clock()
    api = GraphApi(
        access_token=TOKEN,
        app_id="77",
        app_secret=pick.choice([SECRET, None]),
        retry=RetryPolicy(sleep=clock.sleep),
        clock=clock,
    )
    wire = Wire(pick)
    api._transport = wire
    operation, call = pick.choice(list(calls(api, clock).items()))
    try:
        call()
    except GraphError as error:
        check_error(error)
        return operation, type(error).__name__
    # These end in words or in silence, whatever was answered.
    if operation not in {"watch", "look", "check_token"}:
        check_success(operation, wire)
    return operation, "success"


def run_cases(cases: range, seed: int) -> Counter[tuple[str, str]]:
    """Run cases and count their outcomes; the first that fails ends it, with its number."""
    tally: Counter[tuple[str, str]] = Counter()
    for number in cases:
        try:
            tally[run_case(number, seed)] += 1
        except Exception as error:
            raise AssertionError(f"case {number} of seed {seed}") from error
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=int, nargs="?", default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    logging.disable()
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="fbca-fuzz-")
    cases = range(options.cases) if options.only is None else range(options.only, options.only + 1)
    try:
        tally = run_cases(cases, options.seed)
    except AssertionError:
        traceback.print_exc()
        sys.exit(1)
    operations = sorted({operation for operation, _ in tally})
    outcomes = Counter({outcome: 0 for _, outcome in tally})
    for (_, outcome), count in tally.items():
        outcomes[outcome] += count
    print(f"{'':26}{'all':>9}" + "".join(f"{operation:>12}" for operation in operations))
    for outcome, count in outcomes.most_common():
        cells = "".join(f"{tally[operation, outcome]:>12,}" for operation in operations)
        print(f"{outcome:26}{count:>9,}{cells}")
    print(f"{sum(outcomes.values()):,} answers' ends: no other exception, no false success, nothing private in a text.")


if __name__ == "__main__":
    main()
