from __future__ import annotations

import copy
import datetime as dt
import gc
import gzip
import hashlib
import hmac
import io
import ipaddress
import itertools
import json
import pickle
import socket
import ssl
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.adobjects.customaudience import CustomAudience
from facebook_business.adobjects.user import User
from facebook_business.api import FacebookAdsApi, FacebookRequest
from graph_wire import ACCOUNT, AUDIENCE, SECRET, TOKEN, OddServer, Reply, people, refused

from airflow_provider_fbca.exceptions import (
    ConnectionFieldsError,
    GraphAuthError,
    GraphError,
    GraphNotFoundError,
    GraphRequestError,
    GraphThrottledError,
    GraphTransientError,
)
from airflow_provider_fbca.graph import transport
from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.graph.audiences import Audiences
from airflow_provider_fbca.graph.retry import RetryPolicy
from airflow_provider_fbca.graph.upload import UserUploader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROOF = hmac.new(SECRET.encode(), TOKEN.encode(), hashlib.sha256).hexdigest()


@pytest.fixture
def proving(odd: OddServer, pauses: list[float]) -> GraphApi:
    """A client with an app secret."""
    policy = RetryPolicy(sleep=pauses.append)
    return GraphApi(access_token=TOKEN, app_id="77", app_secret=SECRET, base_url=odd.url, timeout=5, retry=policy)


class TestFields:
    def test_defaults_are_metas(self) -> None:
        api = GraphApi(access_token=TOKEN)
        assert isinstance(api, FacebookAdsApi)
        assert (api.base_url, api.api_version) == ("https://graph.facebook.com", "v26.0")
        assert repr(api) == "GraphApi(base_url='https://graph.facebook.com', api_version='v26.0', app_id=None)"

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("graph.facebook.com", "https://graph.facebook.com"),
            ("https://proxy.example/meta/", "https://proxy.example/meta"),
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://localhost:1/", "http://localhost:1"),
            ("http://[::1]:8000", "http://[::1]:8000"),
        ],
    )
    def test_base_urls(self, given: str, kept: str) -> None:
        assert GraphApi(access_token=TOKEN, base_url=given).base_url == kept

    @pytest.mark.parametrize(
        "base_url",
        [
            "http://graph.facebook.com",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "http://192.168.0.1",
            "ftp://graph.facebook.com",
            "https://user:hunter2@graph.facebook.com",
            "https://graph.facebook.com/?a=1",
            "https://graph.facebook.com#a",
            "https://",
            "https://a b",
            "http://[::1",
            "http://127.0.0.1:port",
        ],
    )
    def test_base_urls_that_are_refused(self, base_url: str) -> None:
        with pytest.raises(ConnectionFieldsError) as caught:
            GraphApi(access_token=TOKEN, base_url=base_url)
        assert caught.value.fields == ("host",)
        assert "hunter2" not in str(caught.value)

    def test_all_fields_at_fault_are_named_at_once_without_their_values(self) -> None:
        with pytest.raises(ConnectionFieldsError) as caught:
            GraphApi(
                access_token="to\nken",
                app_secret="se cret",
                base_url="http://x.example",
                api_version="26",
                timeout=0,
                proxies={"https": 1},  # type: ignore[dict-item]
                delete_style="query",
            )
        assert caught.value.fields == (
            *("password", "app_secret", "host", "api_version", "timeout", "proxies", "delete_style"),
        )
        assert "ken" not in str(caught.value).replace("token", "")
        assert "se cret" not in str(caught.value)

    @pytest.mark.parametrize("version", ["v26", "26.0", "v26.0/../x", "v26.0\n", "V26.0"])
    def test_versions_that_are_refused(self, version: str) -> None:
        with pytest.raises(ConnectionFieldsError):
            GraphApi(access_token=TOKEN, api_version=version)

    def test_secrets_are_not_shown_copied_or_pickled(self, proving: GraphApi) -> None:
        for shown in (repr(proving), str(proving), repr(proving._session), repr(vars(proving))):
            assert TOKEN not in shown
            assert SECRET not in shown
        assert copy.copy(proving) is proving
        assert copy.deepcopy(proving) is proving
        with pytest.raises(TypeError):
            pickle.dumps(proving)

    def test_the_process_gets_no_default(self, proving: GraphApi) -> None:
        assert FacebookAdsApi.get_default_api() is None
        with pytest.raises(TypeError):
            GraphApi.init(access_token=TOKEN)
        assert FacebookAdsApi.get_default_api() is None


class TestWire:
    def test_a_plain_get_has_a_query_and_no_body(self, odd: OddServer, odd_api: GraphApi) -> None:
        params = {"fields": "name", "limit": 5, "flag": True, "filtering": [{"field": "x"}], "none": None}
        odd_api.call("GET", (AUDIENCE, "ads"), params)
        [seen] = odd.seen
        assert (seen.method, seen.path, seen.body) == ("GET", f"/v26.0/{AUDIENCE}/ads", b"")
        assert seen.query == {"fields": "name", "limit": "5", "flag": "true", "filtering": '[{"field":"x"}]'}
        assert seen.headers["Authorization"] == f"Bearer {TOKEN}"

    @pytest.mark.parametrize("method", ["POST", "DELETE"])
    def test_writes_have_json_bodies(self, odd: OddServer, odd_api: GraphApi, method: str) -> None:
        odd_api.call(method, (AUDIENCE, ""), {"name": "é", "on": True, "list": [1], "when": dt.date(2026, 1, 2)})
        [seen] = odd.seen
        assert (seen.method, seen.target) == (method, f"/v26.0/{AUDIENCE}")
        assert seen.headers["Content-Type"] == "application/json"
        assert seen.json == {"name": "é", "on": True, "list": [1], "when": "2026-01-02"}

    def test_with_a_secret_every_call_carries_the_proof_in_its_body(self, odd: OddServer, proving: GraphApi) -> None:
        proving.call("GET", (AUDIENCE,), {"fields": "name", "deep": {"a": [1]}})
        proving.call("POST", (AUDIENCE,), {"name": "x"})
        proving.send("DELETE", (AUDIENCE, "users"), {"payload": b"{}"})
        get, post, delete = odd.seen
        assert (get.method, get.target) == ("POST", f"/v26.0/{AUDIENCE}")
        assert get.form == {"fields": "name", "deep": '{"a":[1]}', "appsecret_proof": PROOF, "method": "get"}
        assert post.json == {"name": "x", "appsecret_proof": PROOF}
        assert delete.json == {"payload": {}, "appsecret_proof": PROOF}
        assert all(seen.headers["Authorization"] == f"Bearer {TOKEN}" for seen in odd.seen)

    def test_where_bodies_of_delete_get_lost_they_go_as_post(self, odd: OddServer, pauses: list[float]) -> None:
        api = GraphApi(
            access_token=TOKEN,
            app_secret=SECRET,
            base_url=odd.url,
            delete_style="method_override",
            retry=RetryPolicy(sleep=pauses.append),
        )
        odd.say(Reply(drop=True))
        api.send("DELETE", (AUDIENCE, "users"), {"payload": b"{}"})
        api.call("DELETE", (AUDIENCE,), {"a": 1})
        api.send("POST", (AUDIENCE, "users"), {"payload": b"{}"})
        # It is as harmless as ever to send a removal again.
        lost, sent, called, added = odd.seen
        assert lost.json == sent.json == {"payload": {}, "appsecret_proof": PROOF, "method": "DELETE"}
        assert called.json == {"a": 1, "appsecret_proof": PROOF, "method": "DELETE"}
        assert "method" not in added.json
        assert {seen.method for seen in odd.seen} == {"POST"}

    def test_a_delete_without_a_body_has_nothing_to_lose(self, odd: OddServer) -> None:
        GraphApi(access_token=TOKEN, base_url=odd.url, delete_style="method_override").call("DELETE", (AUDIENCE,))
        assert odd.seen[0].method == "DELETE"

    @pytest.mark.parametrize("name", ["input_token", "client_secret", "fb_exchange_token"])
    def test_secret_parameters_never_go_into_the_address(self, odd: OddServer, odd_api: GraphApi, name: str) -> None:
        odd_api.call("GET", ("debug_token",), {name: "hidden"})
        [seen] = odd.seen
        assert (seen.method, seen.target) == ("POST", "/v26.0/debug_token")
        assert seen.form == {name: "hidden", "method": "get"}

    def test_another_token_for_one_call_goes_into_the_header(self, odd: OddServer, proving: GraphApi) -> None:
        proving.call("GET", ("me",), {"access_token": "other", "appsecret_proof": "stale"})
        proving.call("GET", ("me",), {"access_token": f"77|{SECRET}"})
        other, app = odd.seen
        assert other.headers["Authorization"] == "Bearer other"
        assert other.form["appsecret_proof"] == hmac.new(SECRET.encode(), b"other", hashlib.sha256).hexdigest()
        assert "access_token" not in other.form
        assert app.headers["Authorization"] == f"Bearer 77|{SECRET}"
        assert app.target == "/v26.0/me"

    def test_overlong_queries_go_as_a_form(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd_api.call("GET", ("act_1", "customaudiences"), {"fields": "name," * 1000})
        [seen] = odd.seen
        assert seen.method == "POST"
        assert len(seen.target) < 100

    def test_files_are_sent_as_multipart(self, odd: OddServer, proving: GraphApi) -> None:
        proving.call("POST", ("act_1", "adimages"), {"name": "é"}, files={"a.png": io.BytesIO(b"PNG bytes")})
        [seen] = odd.seen
        assert seen.headers["Content-Type"].startswith("multipart/form-data; boundary=")
        assert b"PNG bytes" in seen.body
        assert PROOF.encode() in seen.body
        assert seen.target == "/v26.0/act_1/adimages"

    def test_a_whole_address_is_followed_at_our_host_only_and_without_its_token(
        self, odd: OddServer, odd_api: GraphApi
    ) -> None:
        odd_api.call("GET", f"{odd.url}/v25.0/{AUDIENCE}/ads?access_token=stale&appsecret_proof=x&after=abc%3D")
        [seen] = odd.seen
        assert (seen.path, seen.query) == (f"/v25.0/{AUDIENCE}/ads", {"after": "abc="})
        for address in ("https://graph.facebook.com/v26.0/me", "http://127.0.0.1:1/v26.0/me", "//evil.example/me"):
            with pytest.raises(GraphRequestError, match="another host"):
                odd_api.call("GET", address)
        assert len(odd.seen) == 1

    def test_other_hosts_get_the_token_only_if_both_are_metas(self, odd_api: GraphApi) -> None:
        with pytest.raises(GraphRequestError, match="another host"):
            odd_api.call("POST", ("act_1", "advideos"), url_override="https://graph-video.facebook.com")
        with pytest.raises(GraphRequestError, match="another host"):
            GraphApi(access_token=TOKEN).call("GET", ("me",), url_override="https://facebook.com.evil.example")

    @pytest.mark.parametrize("path", [("..", "me"), ("", "users"), (".",), (AUDIENCE, "..")])
    def test_paths_do_not_climb(self, odd: OddServer, odd_api: GraphApi, path: tuple[str, ...]) -> None:
        with pytest.raises(GraphRequestError):
            odd_api.call("GET", path)
        assert odd.seen == []

    def test_parts_of_a_path_are_quoted(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd_api.call("GET", ("a/b?c#d", "x"))
        assert odd.seen[0].target == "/v26.0/a%2Fb%3Fc%23d/x"

    def test_what_json_has_no_form_for_is_named_by_type_only(self, odd_api: GraphApi) -> None:
        with pytest.raises(GraphRequestError, match="type bytes") as caught:
            odd_api.call("POST", ("me",), {"payload": [b"mary@example.com"]})
        assert "mary" not in str(caught.value)

    def test_a_netrc_does_not_replace_the_token(
        self, odd: OddServer, odd_api: GraphApi, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("default login someone password word\n")
        monkeypatch.setenv("NETRC", str(netrc))
        odd_api._transport._use_environment = True
        odd_api.call("GET", ("me",))
        assert odd.seen[0].headers["Authorization"] == f"Bearer {TOKEN}"

    def test_proxies_of_the_environment_are_not_for_this_machine(
        self, odd: OddServer, odd_api: GraphApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        odd_api.call("GET", ("me",))
        assert len(odd.seen) == 1

    def test_a_proxy_of_the_connection_is_used(self, odd: OddServer, pauses: list[float]) -> None:
        api = GraphApi(
            access_token=TOKEN,
            base_url="http://127.0.0.1:9",
            proxies={"http": odd.url},
            retry=RetryPolicy(sleep=pauses.append),
        )
        api.call("GET", ("me",))
        assert odd.seen[0].target == "http://127.0.0.1:9/v26.0/me"

    def test_cookies_are_not_kept(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.say(Reply(headers={"Set-Cookie": "a=b"}))
        odd_api.call("GET", ("me",))
        odd_api.call("GET", ("me",))
        assert "Cookie" not in odd.seen[1].headers


class TestAnswers:
    @pytest.mark.parametrize(
        "reply",
        [
            Reply(502, b"<html>Bad Gateway</html>"),
            Reply(200, b"<html>success</html>"),
            Reply(200, b""),
            Reply(200, b"true"),
            Reply(200, b"[]"),
            Reply(200, b'{"data": ['),
            Reply(200, b'{"id": "1"}', promised=500),
            Reply(drop=True),
            Reply(204, b""),
        ],
    )
    def test_a_write_without_a_proper_answer_is_of_unknown_outcome_and_not_repeated(
        self, odd: OddServer, odd_api: GraphApi, reply: Reply
    ) -> None:
        odd.say(reply)
        with pytest.raises(GraphTransientError) as caught:
            odd_api.call("POST", ("act_1", "customaudiences"), {"name": "x"})
        assert caught.value.outcome_unknown
        assert len(odd.seen) == 1

    def test_reads_and_deletes_are_repeated(self, odd: OddServer, odd_api: GraphApi, pauses: list[float]) -> None:
        odd.say(Reply(drop=True), Reply(502, b"<html>"), refused(2), Reply(200, {"name": "x"}))
        assert odd_api.call("GET", (AUDIENCE,)).json() == {"name": "x"}
        assert len(pauses) == 3
        odd.say(Reply(502, b"<html>"), Reply(200, {"success": True}))
        assert odd_api.call("DELETE", (AUDIENCE,)).json() == {"success": True}

    def test_a_refused_post_is_repeated_only_after_a_rate_limit(
        self, odd: OddServer, odd_api: GraphApi, pauses: list[float]
    ) -> None:
        odd.say(refused(80003, 2446079), Reply(200, {"id": "5"}))
        assert odd_api.call("POST", ("act_1", "customaudiences")).json() == {"id": "5"}
        assert 60 <= pauses[0] <= 66
        odd.say(refused(2, is_transient=True))
        with pytest.raises(GraphTransientError) as caught:
            odd_api.call("POST", ("act_1", "customaudiences"))
        assert not caught.value.outcome_unknown

    def test_success_false_is_a_failure(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.say(Reply(200, {"success": False}))
        with pytest.raises(GraphRequestError):
            CustomAudience(AUDIENCE, api=odd_api).api_delete()

    def test_an_error_wins_over_the_status(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.say(refused(190, 463, status=200))
        with pytest.raises(GraphAuthError) as caught:
            odd_api.call("GET", ("me",))
        assert (caught.value.code, caught.value.subcode) == (190, 463)

    def test_redirects_are_not_followed(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.say(Reply(302, b"", {"Location": f"{odd.url}/v26.0/elsewhere"}))
        with pytest.raises(GraphRequestError, match="redirect"):
            odd_api.call("GET", ("me",))
        assert len(odd.seen) == 1

    def test_an_answer_has_a_size(self, odd: OddServer, odd_api: GraphApi, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 1000)
        odd.answer = lambda _seen: Reply(200, {"data": "x" * 2000})
        with pytest.raises(GraphTransientError, match="more than 1000 bytes"):
            odd_api.call("GET", ("me",))

    def test_the_size_counts_what_a_compressed_answer_unpacks_to(
        self, odd: OddServer, odd_api: GraphApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 2**20)
        bomb = gzip.compress(json.dumps({"data": " " * 2**26}).encode())
        assert len(bomb) < 2**20
        odd.answer = lambda _seen: Reply(200, bomb, {"Content-Encoding": "gzip"})
        tracemalloc.start()
        try:
            with pytest.raises(GraphTransientError, match="more than 1048576 bytes"):
                odd_api.call("GET", ("me",))
            # Nor is it unpacked at once: what is held is far from the 64 MB that it holds.
            assert tracemalloc.get_traced_memory()[1] < 2**24
        finally:
            tracemalloc.stop()

    def test_a_compressed_answer_is_read(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.say(Reply(200, gzip.compress(b'{"id": "5"}'), {"Content-Encoding": "gzip"}))
        assert odd_api.call("GET", ("me",)).json() == {"id": "5"}

    @pytest.mark.parametrize(
        "headers",
        [
            {"X-Business-Use-Case-Usage": "{"},
            {"X-App-Usage": '{"call_count": "many"}', "Retry-After": "soon"},
            {"X-Ad-Account-Usage": '{"acc_id_util_pct": NaN}'},
            {"Content-Type": "text/html; charset=nonsense"},
            {"X-Odd": "\u00e9"},
        ],
    )
    def test_odd_headers_do_not_spoil_an_answer(
        self, odd: OddServer, odd_api: GraphApi, pauses: list[float], headers: dict[str, str]
    ) -> None:
        odd.say(Reply(200, {"id": "5"}, headers))
        odd_api.call("GET", ("act_1",))
        assert odd_api.call("GET", ("act_1",)).json() == {"success": True}
        assert pauses == []

    @pytest.mark.parametrize("kind", ["reset", "drop", "cut", "truncated_json", "wrong_content", "html_ok"])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_creation_whose_answer_is_lost_is_not_made_twice(
        self, sandbox: Any, api: GraphApi, kind: str, when: str
    ) -> None:
        sandbox.fault(kind, when=when, operation="create_audience")
        with pytest.raises(GraphTransientError) as caught:
            Audiences(api).create(sandbox.ad_account_id, name="Once")
        assert caught.value.outcome_unknown
        assert len(sandbox.audiences()) == (1 if when == "after" else 0)

    def test_an_answer_has_a_time(self, odd: OddServer) -> None:
        api = GraphApi(access_token=TOKEN, base_url=odd.url, timeout=0.2, retry=RetryPolicy(attempts=1))
        assert api.longest_flight == 0.4
        odd.say(Reply(hold=3))
        with pytest.raises(GraphTransientError, match="ReadTimeout") as caught:
            api.call("POST", ("act_1", "customaudiences"))
        assert caught.value.outcome_unknown

    def test_nobody_there_means_nothing_was_sent(self, pauses: list[float]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        api = GraphApi(access_token=TOKEN, base_url=url, retry=RetryPolicy(sleep=pauses.append))
        with pytest.raises(GraphTransientError, match="ConnectionError") as caught:
            api.call("POST", ("act_1", "customaudiences"), {"name": "x"})
        assert not caught.value.outcome_unknown
        assert len(pauses) == 4

    def test_a_certificate_that_nobody_vouches_for_is_refused(self, odd: OddServer, pauses: list[float]) -> None:
        url = odd.url.replace("http://", "https://")
        api = GraphApi(access_token=TOKEN, base_url=url, timeout=1, retry=RetryPolicy(attempts=1))
        with pytest.raises(GraphTransientError) as caught:
            api.call("POST", ("me",))
        assert not caught.value.outcome_unknown

    def test_a_self_signed_certificate_is_refused(self, odd: OddServer, tmp_path: Path) -> None:
        with tls_before(odd, tmp_path) as url:
            api = GraphApi(access_token=TOKEN, base_url=url, timeout=5, retry=RetryPolicy(attempts=1))
            with pytest.raises(GraphTransientError, match="SSLError") as caught:
                api.call("POST", ("me",))
        assert not caught.value.outcome_unknown
        assert odd.seen == []

    def test_it_is_remembered_that_a_write_may_still_land(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.say(Reply(drop=True), Reply(200, {"name": "x"}), refused(2), Reply(200, {"success": True}))
        odd_api.call("GET", (AUDIENCE,))
        odd_api.call("DELETE", (AUDIENCE,))
        assert odd_api.unknown_since is None
        odd.say(Reply(drop=True), Reply(200, {"success": True}))
        before = time.monotonic()
        odd_api.call("DELETE", (AUDIENCE,))
        assert odd_api.unknown_since is not None
        assert before <= odd_api.unknown_since <= time.monotonic()

    def test_a_new_audience_may_be_unknown_for_a_moment(
        self, odd: OddServer, odd_api: GraphApi, pauses: list[float]
    ) -> None:
        odd.say(refused(803))
        with pytest.raises(GraphNotFoundError):
            odd_api.call("GET", (AUDIENCE,))
        odd_api.remember(AUDIENCE, ACCOUNT, created=True)
        odd.say(refused(803), Reply(200, {"id": AUDIENCE}))
        assert odd_api.call("GET", (AUDIENCE,)).json() == {"id": AUDIENCE}

    def test_errors_name_the_account_that_is_known(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.say(refused(200, 1870090), refused(200, 1870090))
        with pytest.raises(GraphError, match=r"tos/\?act=55"):
            odd_api.call("POST", ("act_55", "customaudiences"))
        odd_api.remember(AUDIENCE, ACCOUNT)
        with pytest.raises(GraphError, match=rf"tos/\?act={ACCOUNT}"):
            odd_api.call("POST", (AUDIENCE, "users"))

    def test_an_old_version_is_told_once(
        self, odd: OddServer, odd_api: GraphApi, caplog: pytest.LogCaptureFixture
    ) -> None:
        odd.answer = lambda _seen: Reply(headers={"x-ad-api-version-warning": "old"})
        odd_api.call("GET", ("me",))
        odd_api.call("GET", ("me",))
        assert [record.levelname for record in caplog.records if "api_version" in record.message] == ["WARNING"]

    def test_links_to_pages_lose_their_token(self, odd: OddServer, odd_api: GraphApi) -> None:
        link = f"https://graph.facebook.com/v26.0/1/ads?access_token={TOKEN}&appsecret_proof={PROOF}&after=abc"
        nested = {"data": [{"ads": {"paging": {"next": link}}}], "paging": {"previous": link, "next": link}}
        odd.say(Reply(200, nested), Reply(200, nested))
        for body in (odd_api.call("GET", ("me",)).body(), json.dumps(odd_api.request("GET", ("me",)))):
            assert TOKEN not in body
            assert PROOF not in body
            assert json.loads(body)["paging"]["next"] == "https://graph.facebook.com/v26.0/1/ads?after=abc"

    def test_a_new_token_is_kept_where_it_is_what_was_asked_for(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.say(Reply(200, {"access_token": "longer", "token_type": "bearer"}))
        answer = odd_api.call("GET", ("oauth", "access_token"), {"client_secret": SECRET})
        assert answer.json()["access_token"] == "longer"

    def test_a_response_holds_nothing_of_the_request(self, odd: OddServer, odd_api: GraphApi) -> None:
        answer = odd_api.call("POST", (AUDIENCE, "users"), {"payload": "private"})
        assert "private" not in repr(vars(answer))
        assert TOKEN not in repr(vars(answer))
        assert (answer.status(), answer.is_success(), answer.error()) == (200, True, None)


class TestSdkObjects:
    def test_read_create_update_delete(self, sandbox: Any, api: GraphApi) -> None:
        account = AdAccount(f"act_{sandbox.ad_account_id}", api=api)
        params = {"name": "Made", "subtype": "CUSTOM", "customer_file_source": "USER_PROVIDED_ONLY"}
        made = account.create_custom_audience(params=params)
        audience = CustomAudience(made["id"], api=api)
        assert audience.api_get(fields=["name"])["name"] == "Made"
        audience.api_update(params={"description": "words"})
        assert audience.api_get(fields=["description"])["description"] == "words"
        audience.api_delete()
        with pytest.raises(GraphNotFoundError):
            audience.api_get(fields=["name"])
        assert_clean(sandbox)

    @pytest.mark.parametrize("with_secret", [True, False])
    def test_cursors_go_through_all_pages(self, sandbox: Any, api: GraphApi, with_secret: bool) -> None:
        for number in range(7):
            sandbox.create_audience(f"Number {number}")
        reader = api if with_secret else GraphApi(access_token=sandbox.token, base_url=sandbox.url)
        cursor = AdAccount(f"act_{sandbox.ad_account_id}", api=reader).get_custom_audiences(
            fields=["name"], params={"limit": 3}
        )
        assert sorted(audience["name"] for audience in cursor) == [f"Number {number}" for number in range(7)]
        assert len(sandbox.requests("list_audiences")) >= 3
        assert_clean(sandbox)

    def test_a_cursor_over_the_users_accounts(self, sandbox: Any, api: GraphApi) -> None:
        accounts = list(User("me", api=api).get_ad_accounts(fields=["name"], params={"limit": 1}))
        assert len(accounts) == 2
        assert_clean(sandbox)

    def test_the_sdks_own_removal_has_a_short_address(self, sandbox: Any, api: GraphApi) -> None:
        audience_id = sandbox.create_audience()
        users = [[f"{number:064x}"] for number in range(10_000)]
        audience = CustomAudience(audience_id, api=api)
        audience.add_users(schema=["EMAIL"], users=users, is_raw=True, pre_hashed=True)
        audience.remove_users(schema=["EMAIL"], users=users[:9_000], is_raw=True, pre_hashed=True)
        assert sandbox.audience(audience_id)["rows"] == 1_000
        assert max(request["url_length"] for request in sandbox.requests()) < 2_000
        assert_clean(sandbox)

    def test_removals_and_deletions_go_as_post_where_the_connection_says_so(self, sandbox: Any) -> None:
        audience_id = sandbox.create_audience()
        api = GraphApi(
            access_token=sandbox.token,
            app_id=sandbox.app_id,
            app_secret=sandbox.app_secret,
            base_url=sandbox.url,
            delete_style="method_override",
        )
        ids = itertools.count(7)
        upload = UserUploader(api, audience_id, new_session=lambda: next(ids), batch_size=100)
        upload.add(people(250), total=250)
        upload.remove(people(120), total=120)
        audience = CustomAudience(audience_id, api=api)
        audience.remove_users(schema=["EXTERN_ID"], users=[["c120"], ["c121"]], is_raw=True, pre_hashed=True)
        assert sandbox.audience(audience_id)["rows"] == 128
        removals = sandbox.requests("remove_users")
        assert [(call["method"], call["rows"]) for call in removals] == [("POST", 100), ("POST", 20), ("POST", 2)]
        audience.api_delete()
        with pytest.raises(GraphNotFoundError):
            audience.api_get(fields=["name"])
        assert_clean(sandbox)

    def test_a_pending_request(self, sandbox: Any, api: GraphApi) -> None:
        audience_id = sandbox.create_audience("Waits")
        request = CustomAudience(audience_id, api=api).api_get(fields=["name"], pending=True)
        assert isinstance(request, FacebookRequest)
        assert request.execute()["name"] == "Waits"

    def test_a_batch_carries_no_token_in_its_parts(self, odd: OddServer, proving: GraphApi) -> None:
        part = {"paging": {"next": f"https://graph.facebook.com/v26.0/1?access_token={TOKEN}&after=x"}}
        odd.say(Reply(200, [{"code": 200, "headers": [], "body": json.dumps(part)}, None, {"code": 400, "body": "{}"}]))
        batch = proving.new_batch()
        bodies: list[str] = []
        for number in ("1", "2", "3"):
            CustomAudience(number, api=proving).api_get(
                fields=["name"], batch=batch, success=lambda answer: bodies.append(answer.body())
            )
        again = batch.execute()
        assert len(again) == 1
        [seen] = odd.seen
        assert (seen.method, seen.target) == ("POST", "/v26.0/")
        assert seen.json["appsecret_proof"] == PROOF
        assert TOKEN not in seen.body.decode()
        assert [part["relative_url"] for part in seen.json["batch"]] == [f"{n}/?fields=name" for n in (1, 2, 3)]
        assert TOKEN not in bodies[0]

    def test_a_list_is_an_answer_to_a_batch_only(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.say(Reply(200, []))
        with pytest.raises(GraphTransientError):
            odd_api.call("POST", ("me",), {"batch": []})

    def test_many_threads_share_one_client(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.answer = lambda seen: Reply(200, {"id": seen.path.rpartition("/")[2]})
        together = threading.Barrier(6)
        sessions: dict[str, object] = {}

        def read(number: int) -> bool:
            if number < 6:
                together.wait(10)
            matches = CustomAudience(str(number), api=odd_api).api_get()["id"] == str(number)
            sessions.setdefault(threading.current_thread().name, odd_api._transport._local.session)
            return matches

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(read, range(120)))
        assert len({id(session) for session in sessions.values()}) == 6
        sessions.clear()
        gc.collect()
        assert list(odd_api._transport._sessions) == []
        odd_api.close()
        assert odd_api.call("GET", ("5",)).json() == {"id": "5"}


@contextmanager
def tls_before(odd: OddServer, folder: Path) -> Iterator[str]:
    """Let the odd server speak TLS with a certificate of its own making."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "own.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    plain = odd._server.socket
    odd._server.socket = context.wrap_socket(plain, server_side=True)
    yield odd.url.replace("http://", "https://")


def assert_clean(sandbox: Any) -> None:
    """No address of any request held a token or a proof."""
    for request in sandbox.requests():
        assert not request["query_has_access_token"]
        assert not request["query_has_appsecret_proof"]


def test_rate_limits_beyond_the_bound_are_raised(odd: OddServer, odd_api: GraphApi) -> None:
    usage = {"1": [{"type": "custom_audience", "call_count": 100, "estimated_time_to_regain_access": 12}]}
    odd.say(Reply(400, refused(80003, 2446079).body, {"X-Business-Use-Case-Usage": json.dumps(usage)}))
    with pytest.raises(GraphThrottledError) as caught:
        odd_api.call("GET", (AUDIENCE,))
    assert caught.value.wait_seconds == 720
    assert len(odd.seen) == 1
