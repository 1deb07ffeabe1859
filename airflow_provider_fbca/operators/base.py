"""The options that the operators which send users share.

Parsing a DAG imports this, again and again: what works on rows or talks to Meta is imported when a task runs.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_provider_fbca.compat import conf
from airflow_provider_fbca.exceptions import OptionsError
from airflow_provider_fbca.hooks.credentials import DEFAULT_CONN_ID
from airflow_provider_fbca.links.ads_manager import AudienceLink
from airflow_provider_fbca.operators.deferral import Handover, putting_off
from airflow_provider_fbca.sync import Guards

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import BaseOperatorLink, Context, ObjectStoragePath

    from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook
    from airflow_provider_fbca.operators.rejects import RejectsPlace
    from airflow_provider_fbca.operators.run import AudienceRun
    from airflow_provider_fbca.operators.users import Preparation, Source

_ROWS_A_REQUEST = 10_000


class AudienceOperator(BaseOperator):
    """What every operator of this package has: a connection and an ad account.

    :param fbca_conn_id: the Airflow connection to Meta.
    :param ad_account_id: the ad account, with or without ``act_``; by default the connection's.
    """

    template_fields: Sequence[str] = ("fbca_conn_id", "ad_account_id")
    operator_extra_links: Collection[BaseOperatorLink] = (AudienceLink(),)
    ui_color = "#d8e6fc"

    def __init__(
        self,
        *,
        fbca_conn_id: str = DEFAULT_CONN_ID,
        ad_account_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.fbca_conn_id = fbca_conn_id
        self.ad_account_id = ad_account_id

    @cached_property
    def hook(self) -> FacebookCustomAudienceHook:
        """The hook, made on first use in the worker."""
        from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook  # noqa: PLC0415 - heavy

        return FacebookCustomAudienceHook(self.fbca_conn_id, ad_account_id=self.ad_account_id)


class UsersOperator(AudienceOperator):
    """What every operator that sends users has: an audience, a source, its preparation, a ledger and guards.

    The source is exactly one of ``sql`` (with ``sql_conn_id``), ``users_uri`` and ``users_callable``.

    :param audience_id: id of the audience.
    :param sql: one query; its columns become identifiers by their names, or by ``columns``.
    :param sql_conn_id: connection of the database that runs it.
    :param parameters: values for the query, bound in the driver's own style and never logged. Airflow stores and shows
        them once rendered, as every template field: a person's value has no place here.
    :param session_sql: statements to run before the query in its session, one each: a time zone, a role, a warehouse.
    :param sql_hook_params: keyword arguments for the database's hook.
    :param sql_route: how the rows are read (see ``docs/warehouses.md``); by default the best way for the hook.
    :param statement_timeout: longest time from the query's start to its last row, in seconds or as a ``timedelta``; by
        default as long as it takes. Engines that can are told, and the query is cancelled in any case.
    :param users_uri: an object-storage URI of Parquet, Arrow IPC or CSV (``.csv`` or ``.tsv``, also with ``.gz`` or
        ``.zst``): a file, a folder or a glob.
    :param users_callable: a function called in ``execute`` with the context keys that its signature names, which
        returns anything with ``__arrow_c_stream__`` (a table, a reader, a data frame). Never a template field.
    :param columns: column -> key, or keys, of Meta's; by default the columns' names decide (see ``docs/columns.md``).
    :param default_country: country of rows that name none, for phone numbers, states and ZIP codes; by default none.
    :param transliterate: spell names and cities in a-z instead of keeping accents; off by default.
    :param hashed: key -> True where its cells are SHA-256 digests already (anything else in them is blank), False where
        they never are; by default each cell of 64 hex digits is taken for one.
    :param limited_data_use: True to send every row under Limited Data Use (Meta finds out where a person is; only
        California counts), or the place: ``{"country": 1, "state": 1000}`` for California, zeros to let Meta find out.
        Off by default; for some rows only, map a column to DATA_PROCESSING_OPTIONS. A removal has no use for it.
    :param ledger_uri: where the ledger is; by default ``[fbca] ledger_uri``.
    :param batch_size: most rows of a request, 1 to 10,000 (the default, and Meta's limit).
    :param max_concurrency: most requests in flight at once, 4 by default.
    :param min_rows: fewest usable rows that the source must give; by default 1 (0 for a removal).
    :param max_invalid_ratio: largest share of rows (0 to 1) that may be unusable; by default any.
    :param rejects_uri: a Parquet file to write, a path or an object-storage URI, with a line for each row and each cell
        that cannot be sent: row number, key, reason. It is written once the source is read, also where a guard then
        refuses or ``plan_only`` is set, and replaces the one of an earlier run. By default none.
    :param rejects_columns: columns of the source to copy into it as they came, a customer number say; by default none.
        No value gets into the report but those of columns named here.
    :param plan_only: stop after the guards and return what would be done; nothing is sent or stored in the ledger. Off
        by default.
    :param deferrable: give the worker back during a wait for Meta's rate limit that is longer than ``[fbca]
        defer_after_seconds``; needs a triggerer. The audience's lease is kept meanwhile, and the task goes on where it
        stopped. By default ``[operators] default_deferrable``; without it the task waits in its worker.
    """

    template_fields: Sequence[str] = (
        *AudienceOperator.template_fields,
        "audience_id",
        "sql",
        "sql_conn_id",
        "parameters",
        "session_sql",
        "sql_hook_params",
        "users_uri",
        "columns",
        "default_country",
        "ledger_uri",
        "rejects_uri",
        "rejects_columns",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql", "columns": "json"}

    #: What ``min_rows`` is where a task does not say.
    default_min_rows: ClassVar[int] = 1
    #: Whether its rows are sent to be removed, and nothing else.
    removes: ClassVar[bool] = False

    def __init__(
        self,
        *,
        audience_id: str,
        sql: str | None = None,
        sql_conn_id: str | None = None,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        session_sql: str | Sequence[str] = (),
        sql_hook_params: dict[str, Any] | None = None,
        sql_route: str = "auto",
        statement_timeout: float | timedelta | None = None,
        users_uri: str | None = None,
        users_callable: Callable[..., Any] | None = None,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        default_country: str | None = None,
        transliterate: bool = False,
        hashed: Mapping[str, bool] | None = None,
        limited_data_use: bool | Mapping[str, int] = False,
        ledger_uri: str | None = None,
        batch_size: int = _ROWS_A_REQUEST,
        max_concurrency: int = 4,
        min_rows: int | None = None,
        max_invalid_ratio: float | None = None,
        rejects_uri: str | None = None,
        rejects_columns: Sequence[str] = (),
        plan_only: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.audience_id = audience_id
        self.sql = sql
        self.sql_conn_id = sql_conn_id
        self.parameters = parameters
        self.session_sql = session_sql
        self.sql_hook_params = sql_hook_params
        self.sql_route = sql_route
        self.statement_timeout = statement_timeout
        self.users_uri = users_uri
        self.users_callable = users_callable
        self.columns = columns
        self.default_country = default_country
        self.transliterate = transliterate
        self.hashed = hashed
        self.limited_data_use = limited_data_use
        self.ledger_uri = ledger_uri
        self.batch_size = batch_size
        self.max_concurrency = max_concurrency
        self.min_rows = self.default_min_rows if min_rows is None else min_rows
        self.max_invalid_ratio = max_invalid_ratio
        self.rejects_uri = rejects_uri
        self.rejects_columns = rejects_columns
        self.plan_only = plan_only
        self.deferrable = deferrable
        self._run: AudienceRun | None = None
        self._handover: Mapping[str, Any] = {}
        #: Earlier manifests; None to find them in XCom. Only a refresh offers it as an option.
        self.previous_upload: Mapping[str, Any] | None = None

    def on_kill(self) -> None:
        """Stop: the query is cancelled and no further request begins; what was sent stays recorded in the ledger."""
        if self._run is not None:
            self._run.stop()

    @property
    def source(self) -> Source:
        """Where the users come from, as rendered."""
        from airflow_provider_fbca.operators.users import Source  # noqa: PLC0415 - heavy

        return Source(
            sql=self.sql,
            sql_conn_id=self.sql_conn_id,
            parameters=self.parameters,
            session_sql=self.session_sql,
            sql_hook_params=self.sql_hook_params,
            sql_route=self.sql_route,
            statement_timeout=self.statement_timeout,
            users_uri=self.users_uri,
            users_callable=self.users_callable,
        )

    @property
    def preparation(self) -> Preparation:
        """How their rows become identifiers."""
        from airflow_provider_fbca.operators.users import Preparation  # noqa: PLC0415 - heavy

        return Preparation(
            self.columns,
            self.default_country,
            self.transliterate,
            self.hashed,
            limited_data_use=self.limited_data_use,
            removal=self.removes,
        )

    def rejects_place(self, ledger: ObjectStoragePath) -> RejectsPlace | None:
        """Where the report of rejects goes, as rendered; None for none.

        :param ledger: the folder of the ledger, where it must not be.
        :raises OptionsError: the place cannot be one.
        """
        if not self.rejects_uri:
            return None
        from airflow_provider_fbca.operators.rejects import RejectsPlace  # noqa: PLC0415 - heavy

        return RejectsPlace.of(self.rejects_uri, self.rejects_columns or (), ledger=ledger)

    @property
    def guards(self) -> Guards:
        """The limits of the task."""
        return Guards(min_rows=self.min_rows, max_invalid_ratio=self.max_invalid_ratio)

    @property
    def may_be_put_off(self) -> bool:
        """Whether the task may give its worker back in the middle of its work, and go on later."""
        return self.deferrable

    @contextmanager
    def audience_run(self, context: Context) -> Iterator[AudienceRun]:
        """Enter what does the work of one try.

        :param context: of the task.
        :raises TaskDeferred: the task has to wait for long, and goes on with :meth:`resume`.
        """
        from airflow_provider_fbca.operators.run import AudienceRun  # noqa: PLC0415 - heavy

        run = self._run = AudienceRun(self, context, Handover(**self._handover))
        with putting_off(self, run), run:
            yield run

    def resume(self, context: Context, *, handover: Mapping[str, Any], event: Any = None) -> Any:  # noqa: ARG002
        """Go on after a wait without a worker: what Meta has acknowledged is not sent again.

        :param context: of the task.
        :param handover: of the process that was put off.
        :param event: of the trigger, which tells nothing but that the time is over.
        """
        self._handover = handover
        return self.execute(context)

    def check_options(self) -> None:
        """Check the options before anything is looked at.

        :raises OptionsError: names the option at fault.
        """
        self.source.check()
        self.guards  # noqa: B018 - checks its own limits
        if isinstance(self.rejects_columns, str) or (self.rejects_columns and not self.rejects_uri):
            raise OptionsError(
                f"rejects_columns is {self.rejects_columns!r}{'' if self.rejects_uri else ', without a rejects_uri'}.",
                remedy="Give a list of columns of the source, and rejects_uri: the file that they are copied into.",
            )
        if self.rejects_uri and self.rejects_uri == self.users_uri:
            raise OptionsError("rejects_uri is the file of the users.", remedy="Give it a place of its own.")
        if not 1 <= self.batch_size <= _ROWS_A_REQUEST:
            raise OptionsError(f"batch_size is {self.batch_size}.", remedy="Give 1 to 10,000 rows a request.")
        if self.max_concurrency < 1:
            raise OptionsError(f"max_concurrency is {self.max_concurrency}.", remedy="Give at least 1.")
