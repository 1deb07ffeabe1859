"""BigQuery's route: a query job, its rows as Arrow over the Storage API, or over REST where that is not to be had."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import logging
import math
import threading
from collections.abc import Mapping
from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.exceptions import OptionsError, SourceError
from airflow_provider_fbca.warehouse.arrow import sliced
from airflow_provider_fbca.warehouse.source import Query, checked_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

log = logging.getLogger(__name__)

_LABELS = {"client": "airflow-provider-fbca"}
# Each stream and each message waiting holds some megabytes. Streams may overtake each other: rows need no order.
_STREAMS = 2
_MESSAGES_AHEAD = 4
_CANCEL_SECONDS = 2.0
# NUMERIC has so many digits after the point, and before it; what has more is a BIGNUMERIC.
_NUMERIC_SCALE, _NUMERIC_WHOLE = 9, 29


class BigQueryReader:
    """Streams a query of BigQuery, in its standard SQL, as Arrow batches.

    BigQuery itself tells before the run what kind of statement it is, and only a SELECT is run. Every statement of
    ``session_sql`` runs in one session of BigQuery, and the query in the same.

    :param hook: a BigQuery hook.
    :param query: what to run.
    """

    route = "bigquery"

    def __init__(self, hook: Any, query: Query) -> None:
        self.origin = query.origin
        self._hook = hook
        self._query = query
        self._client: Any = None
        self._storage: Any = None
        self._session: str | None = None
        self._running: Any = None
        self._finished: Any = None
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._cancelled = threading.Event()

    def connect(self) -> None:
        """Make the clients, which say nothing to Google yet but for a token."""
        self._client = self._hook.get_client(project_id=self._hook.project_id, location=self._hook.location)
        try:
            storage = import_module("google.cloud.bigquery_storage")
        except ImportError:
            log.warning("google-cloud-bigquery-storage is not installed; %s is read over slow REST.", self.origin)
        else:
            self._storage = storage.BigQueryReadClient(credentials=self._hook.get_credentials())

    def start(self) -> tuple[str, ...]:
        """Run the query and wait until it is done.

        :return: its columns.
        :raises OptionsError: a parameter has a type that BigQuery has none for.
        :raises SourceError: it is not a SELECT, or its columns cannot be told apart.
        """
        for statement in self._query.session_sql:
            job = self._run(statement, self._in_session())
            self._session = self._session or job.session_info.session_id
        config = self._in_session() if self._session else self._config()
        config.query_parameters = query_parameters(self._query.parameters)
        self._require_select(config)
        self._finished = self._run(self._query.sql, config)
        return checked_names([field.name for field in self._finished.result().schema], self.origin)

    def read(self) -> pa.RecordBatch | None:
        """Give the next batch, None after the last."""
        if self._batches is None:
            self._batches = self._pieces()
        return next(self._batches, None)

    def cancel(self) -> None:
        """Cancel the job, and end the call that waits for rows."""
        self._cancelled.set()
        job, storage = self._running, self._storage
        if storage is not None:
            storage.transport.close()
        if job is not None:
            job.cancel(retry=None, timeout=_CANCEL_SECONDS)

    def close(self) -> None:
        """Cancel the job if it still runs, end the session and let go of the connections."""
        client, self._client = self._client, None
        if client is None:
            return
        with contextlib.ExitStack() as last_first:
            last_first.callback(client.close)
            if self._session is not None:
                # Not waited for: the server ends the session whether anybody listens or not.
                ending = {"job_config": self._in_session(), "job_retry": None}
                last_first.callback(client.query, "CALL BQ.ABORT_SESSION()", **ending)
            last_first.callback(self.cancel)
        self._batches = None

    def _run(self, sql: str, config: Any) -> Any:
        """Run a statement to its end and give its job."""
        job = self._running = self._client.query(sql, job_config=config, job_retry=None)
        if self._cancelled.is_set():
            # The cancel came while there was no job yet.
            self.cancel()
        job.result()
        self._running = None
        return job

    def _config(self) -> Any:
        """Give how jobs run: as the connection's own configuration says, but in standard SQL, labelled and limited."""
        hook, bigquery = self._hook, import_module("google.cloud.bigquery")
        config = bigquery.QueryJobConfig.from_api_repr(copy.deepcopy(hook.api_resource_configs or {}))
        config.use_legacy_sql = False
        config.priority = hook.priority
        config.labels = {**(hook.labels or {}), **_LABELS}
        if self._query.timeout is not None:
            config.job_timeout_ms = math.ceil(self._query.timeout * 1000)
        return config

    def _in_session(self) -> Any:
        """Give how a job runs in the session, which the first one opens."""
        config = self._config()
        if self._session is None:
            config.create_session = True
        else:
            session = import_module("google.cloud.bigquery").ConnectionProperty("session_id", self._session)
            config.connection_properties = [session]
        return config

    def _require_select(self, config: Any) -> None:
        dry = copy.deepcopy(config)
        dry.dry_run = True
        planned = self._client.query(self._query.sql, job_config=dry, job_retry=None)
        if planned.statement_type != "SELECT":
            raise SourceError(
                f"The statement for {self.origin} is of kind {planned.statement_type}, and only a SELECT is run.",
                remedy="Prepare what the query needs in session_sql, or in a task before this one.",
                permanent=True,
            )

    def _pieces(self) -> Iterator[pa.RecordBatch]:
        for batch in self._arrow_batches():
            yield from sliced(batch, self._query.batch_rows)

    def _arrow_batches(self) -> Iterator[pa.RecordBatch]:
        """Give the rows as they come. REST may take over before the first row, and no later: it has all of them."""
        if self._storage is not None:
            refused = import_module("google.api_core.exceptions").Forbidden
            batches = self._finished.result().to_arrow_iterable(
                bqstorage_client=self._storage, max_queue_size=_MESSAGES_AHEAD, max_stream_count=_STREAMS
            )
            try:
                first = next(batches, None)
            except refused:
                log.warning(
                    "BigQuery's Storage API is refused to %s, which is read over slow REST. For the fast way, enable "
                    "that API and grant bigquery.readsessions.create and bigquery.readsessions.getData.",
                    self.origin,
                )
            else:
                if first is not None:
                    yield first
                    yield from batches
                return
        yield from self._finished.result().to_arrow_iterable()


def query_parameters(parameters: Sequence[Any] | Mapping[str, Any] | None) -> list[Any]:
    """Turn Python values into query parameters of BigQuery, each of the type of its value.

    :param parameters: a mapping for ``@name``, or a sequence for ``?``.
    :raises OptionsError: a value, or the values of one list, have no one type in BigQuery.
    """
    if not parameters:
        return []
    named = parameters.items() if isinstance(parameters, Mapping) else ((None, value) for value in parameters)
    return [_parameter(name, value) for name, value in named]


def _parameter(name: str | None, value: Any) -> Any:
    bigquery = import_module("google.cloud.bigquery")
    if not isinstance(value, (list, tuple)):
        return bigquery.ScalarQueryParameter(name, _type_of(value, name), value)
    kinds = {_type_of(item, name) for item in value} or {"STRING"}
    if len(kinds) > 1:
        raise OptionsError(f"The list for parameter {name or '?'} holds values of {' and '.join(sorted(kinds))}.")
    return bigquery.ArrayQueryParameter(name, kinds.pop(), list(value))


def _type_of(value: object, name: str | None) -> str:
    if isinstance(value, dt.datetime):
        return "DATETIME" if value.tzinfo is None else "TIMESTAMP"
    if isinstance(value, Decimal):
        return _decimal_type(value)
    for kind, type_name in _TYPES:
        if isinstance(value, kind):
            return type_name
    raise OptionsError(
        f"Parameter {name or '?'} is of type {type(value).__qualname__}, which BigQuery has none for.",
        remedy="Give text, numbers, booleans, dates, times, bytes, or lists of one of them.",
    )


def _decimal_type(value: Decimal) -> str:
    digits, exponent = value.as_tuple().digits, value.as_tuple().exponent
    if not isinstance(exponent, int):
        return "FLOAT64"
    fits = -exponent <= _NUMERIC_SCALE and len(digits) + exponent <= _NUMERIC_WHOLE
    return "NUMERIC" if fits else "BIGNUMERIC"


#: Booleans before integers, of which they are a kind. A null has no type; as text it is compared with most.
_TYPES: tuple[tuple[type, str], ...] = (
    (str, "STRING"),
    (bool, "BOOL"),
    (int, "INT64"),
    (float, "FLOAT64"),
    (dt.date, "DATE"),
    (dt.time, "TIME"),
    (bytes, "BYTES"),
    (type(None), "STRING"),
)
