"""Records come back bucket by bucket, whole and in their order, however they were cut."""

from __future__ import annotations

import secrets
import stat

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_fbca.ledger import buckets
from airflow_provider_fbca.ledger.buckets import BUCKETS, Buckets

KIND = np.dtype([("id", "V16"), ("place", "<i8")])
quietly = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quietly
@given(st.lists(st.lists(st.sampled_from([0, 1, 7, 254, 255]), max_size=9), max_size=8), st.integers(1, 20))
def test_a_bucket_gives_its_records_in_the_order_in_which_they_came(workdir, monkeypatch, parts, chunk):
    monkeypatch.setattr(buckets, "_CHUNK", chunk)
    numbers = np.cumsum([0, *map(len, parts)])

    def records(number, part):
        found = np.zeros(len(part), KIND)
        found["place"] = np.arange(numbers[number], numbers[number + 1])
        found["id"] = np.array([place.tobytes() * 2 for place in found["place"]], "V16")
        return found, np.array(part, np.uint8)

    written = Buckets(
        workdir.file(secrets.token_hex(4)), KIND, (records(number, part) for number, part in enumerate(parts))
    )
    every = [bucket for part in parts for bucket in part]
    assert written.filled == set(every)
    for bucket in range(BUCKETS):
        found = written.read(bucket)
        assert found["place"].tolist() == [place for place, own in enumerate(every) if own == bucket]
        assert all(bytes(one["id"]) == one["place"].tobytes() * 2 for one in found)
    written.close()


def test_the_file_is_private_and_goes_when_it_is_closed(workdir):
    written = Buckets(workdir.file("records"), KIND, [(np.zeros(3, KIND), np.zeros(3, np.uint8))])
    assert stat.S_IMODE(workdir.file("records").stat().st_mode) == 0o600
    assert workdir.file("records").stat().st_size == 3 * 24
    written.close()
    assert not workdir.file("records").exists()
