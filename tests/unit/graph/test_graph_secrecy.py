"""Whatever goes wrong, no text that could reach a log holds a token, a secret, a proof or a person."""

from __future__ import annotations

import gc
import hashlib
import hmac
import io
import itertools
import logging
import socket
import traceback
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from graph_wire import AUDIENCE, SECRET, TOKEN, OddServer, Reply, digest, refused

from airflow_provider_fbca.exceptions import OptionsError
from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.graph.audiences import Audiences
from airflow_provider_fbca.graph.retry import RetryPolicy
from airflow_provider_fbca.graph.upload import UserUploader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROOF = hmac.new(SECRET.encode(), TOKEN.encode(), hashlib.sha256).hexdigest()
HASH = digest(2**250 + 12345).hex()
EXTERN_ID = "mary.example-4711"
PRIVATE = (TOKEN, SECRET, PROOF, HASH, EXTERN_ID)
ROWS = pa.record_batch({"EXTERN_ID": [EXTERN_ID], "EMAIL": pa.array([bytes.fromhex(HASH)], pa.binary(32))})
ECHO = f"Invalid row ['{EXTERN_ID}', '{HASH}'] for token {TOKEN} with proof {PROOF} and \"{EXTERN_ID}\""


@pytest.fixture
def everything_logged() -> Iterator[io.StringIO]:
    """All that anyone logs, down to the HTTP library's debugging."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def _closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def _upload(api: GraphApi) -> object:
    return UserUploader(api, AUDIENCE, new_session=lambda: 7).add([ROWS], total=1)


def _remove(api: GraphApi) -> object:
    return UserUploader(api, AUDIENCE, new_session=lambda: 7).remove([ROWS], total=1)


def _sdk_get(api: GraphApi) -> object:
    return api.call("GET", (AUDIENCE,), {"fields": "name"})


def _token_info(api: GraphApi) -> object:
    return Audiences(api).token_info()


REPLIES: dict[str, Reply | None] = {
    "refused": refused(100, message=ECHO, error_user_title=ECHO, error_user_msg=ECHO, error_data={"rows": ECHO}),
    "refused in brackets": refused(2650, message=f"({HASH}) {TOKEN}", fbtrace_id=TOKEN + "!" * 3),
    "html": Reply(500, f"<html>{ECHO}</html>".encode()),
    "dropped": Reply(drop=True),
    "truncated": Reply(200, ECHO.encode(), promised=9999),
    "redirect": Reply(302, b"", {"Location": f"https://x.example/?access_token={TOKEN}"}),
    "slow": Reply(hold=2),
    "bad encoding": Reply(200, ECHO.encode(), {"Content-Encoding": "gzip"}),
    "no server": None,
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES.keys())
@pytest.mark.parametrize("act", [_upload, _remove, _sdk_get, _token_info])
def test_failures_tell_nothing_private(
    odd: OddServer, everything_logged: io.StringIO, act: Callable[[GraphApi], object], reply: Reply | None
) -> None:
    api = GraphApi(
        access_token=TOKEN,
        app_id="77",
        app_secret=SECRET,
        base_url=odd.url if reply else _closed_port(),
        timeout=0.2,
        retry=RetryPolicy(attempts=2, sleep=lambda _seconds: None),
    )
    if reply:
        odd.answer = lambda _seen: reply
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any failure will do
        act(api)
    error: BaseException | None = caught.value
    texts = [everything_logged.getvalue(), repr(api), *traceback.format_exception(error)]
    while error:
        texts += [repr(error), str(error), repr(vars(error)), repr(error.args)]
        error = error.__cause__ or error.__context__
    for private in PRIVATE:
        assert not any(private in text for text in texts)
    assert all(private not in seen.target for seen in odd.seen for private in PRIVATE)


@pytest.mark.parametrize("delete_style", ["body", "method_override"])
def test_the_http_librarys_own_log_of_every_call_is_clean(
    sandbox: Any, everything_logged: io.StringIO, delete_style: str
) -> None:
    """Addresses are what it logs at DEBUG, sizes and headers of answers: none of them may tell."""
    api = GraphApi(
        access_token=sandbox.token,
        app_id=sandbox.app_id,
        app_secret=sandbox.app_secret,
        base_url=sandbox.url,
        delete_style=delete_style,
    )
    audiences = Audiences(api)
    audience_id = audiences.create(sandbox.ad_account_id, name="x")
    ids = itertools.count(1)
    uploader = UserUploader(api, audience_id, new_session=lambda: next(ids))
    uploader.add([ROWS], total=1)
    uploader.remove([ROWS], total=1)
    uploader.replace([ROWS], total=1)
    uploader.erase([ROWS], account_id=sandbox.ad_account_id)
    audiences.token_info()
    audiences.ad_accounts()
    audiences.find(sandbox.ad_account_id, "x")
    logged = everything_logged.getvalue()
    assert f"/v26.0/{audience_id}/users" in logged
    secret = (sandbox.token, sandbox.app_secret, str(api.appsecret_proof), api.app_token or "")
    assert not any(private in logged for private in (*secret, HASH, EXTERN_ID))


@pytest.mark.parametrize(
    "odd_id", ["../me", "1/users", "1?access_token=x", "1#", "act_", "", " ", "1\n2", "\u0661", "-1"]
)
def test_ids_that_are_no_numbers_never_reach_a_path(odd: OddServer, odd_api: GraphApi, odd_id: str) -> None:
    audiences = Audiences(odd_api)
    calls: list[Callable[[], object]] = [
        lambda: audiences.get(odd_id),
        lambda: audiences.update(odd_id, name="x"),
        lambda: audiences.delete(odd_id),
        lambda: audiences.sessions(odd_id),
        lambda: audiences.account_of(odd_id),
        lambda: audiences.create(odd_id, name="x"),
        lambda: audiences.find(odd_id, "x"),
        lambda: audiences.terms_accepted(odd_id),
        lambda: UserUploader(odd_api, odd_id, new_session=lambda: 7),
        lambda: UserUploader(odd_api, AUDIENCE, new_session=lambda: 7).erase([ROWS], account_id=odd_id),
    ]
    for call in calls:
        with pytest.raises(OptionsError):
            call()
    assert odd.seen == []


def test_success_logs_nothing_private(sandbox: Any, api: GraphApi, everything_logged: io.StringIO) -> None:
    audience_id = sandbox.create_audience()
    UserUploader(api, audience_id, new_session=lambda: 7).add([ROWS], total=1)
    Audiences(api).get(audience_id)
    logged = everything_logged.getvalue()
    assert audience_id in logged
    assert not any(private in logged for private in (sandbox.token, sandbox.app_secret, HASH, EXTERN_ID))


def test_an_error_of_the_way_keeps_no_reference_to_the_one_that_quotes() -> None:
    api = GraphApi(access_token=TOKEN, base_url=_closed_port(), retry=RetryPolicy(attempts=1))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any failure will do
        api.call("GET", ("me",))
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    gc.collect()
