"""The options that the operators which send users share.

Parsing a DAG imports this, again and again: what works on rows or talks to Meta is imported when a task runs.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_provider_fbca.exceptions import OptionsError
from airflow_provider_fbca.hooks.credentials import DEFAULT_CONN_ID
from airflow_provider_fbca.links.ads_manager import AudienceLink
from airflow_provider_fbca.sync import Guards

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow.sdk import BaseOperatorLink, Context

    from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook
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
    :param parameters: values for the query, bound in the driver's own style and never logged.
    :param sql_hook_params: keyword arguments for the database's hook.
    :param users_uri: an object-storage URI of Parquet or Arrow IPC: a file, a folder or a glob.
    :param users_callable: a function called in ``execute`` with the context keys that its signature names, which
        returns anything with ``__arrow_c_stream__`` (a table, a reader, a data frame). Never a template field.
    :param columns: column -> key, or keys, of Meta's; by default the columns' names decide (see ``docs/columns.md``).
    :param default_country: country of rows that name none, for phone numbers, states and ZIP codes; by default none.
    :param transliterate: spell names and cities in a-z instead of keeping accents; off by default.
    :param hashed: key -> True where its cells are SHA-256 digests already (anything else in them is blank), False where
        they never are; by default each cell of 64 hex digits is taken for one.
    :param ledger_uri: where the ledger is; by default ``[fbca] ledger_uri``.
    :param batch_size: most rows of a request, 1 to 10,000 (the default, and Meta's limit).
    :param max_concurrency: most requests in flight at once, 4 by default.
    :param min_rows: fewest usable rows that the source must give; by default 1 (0 for a removal).
    :param max_invalid_ratio: largest share of rows (0 to 1) that may be unusable; by default any.
    :param plan_only: stop after the guards and return what would be done; nothing is stored or sent. Off by default.
    """

    template_fields: Sequence[str] = (
        *AudienceOperator.template_fields,
        "audience_id",
        "sql",
        "sql_conn_id",
        "parameters",
        "sql_hook_params",
        "users_uri",
        "columns",
        "default_country",
        "ledger_uri",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql", "columns": "json"}

    #: What ``min_rows`` is where a task does not say.
    default_min_rows: ClassVar[int] = 1

    def __init__(
        self,
        *,
        audience_id: str,
        sql: str | None = None,
        sql_conn_id: str | None = None,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        sql_hook_params: dict[str, Any] | None = None,
        users_uri: str | None = None,
        users_callable: Callable[..., Any] | None = None,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        default_country: str | None = None,
        transliterate: bool = False,
        hashed: Mapping[str, bool] | None = None,
        ledger_uri: str | None = None,
        batch_size: int = _ROWS_A_REQUEST,
        max_concurrency: int = 4,
        min_rows: int | None = None,
        max_invalid_ratio: float | None = None,
        plan_only: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.audience_id = audience_id
        self.sql = sql
        self.sql_conn_id = sql_conn_id
        self.parameters = parameters
        self.sql_hook_params = sql_hook_params
        self.users_uri = users_uri
        self.users_callable = users_callable
        self.columns = columns
        self.default_country = default_country
        self.transliterate = transliterate
        self.hashed = hashed
        self.ledger_uri = ledger_uri
        self.batch_size = batch_size
        self.max_concurrency = max_concurrency
        self.min_rows = self.default_min_rows if min_rows is None else min_rows
        self.max_invalid_ratio = max_invalid_ratio
        self.plan_only = plan_only
        self._run: AudienceRun | None = None
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
            sql_hook_params=self.sql_hook_params,
            users_uri=self.users_uri,
            users_callable=self.users_callable,
        )

    @property
    def preparation(self) -> Preparation:
        """How their rows become identifiers."""
        from airflow_provider_fbca.operators.users import Preparation  # noqa: PLC0415 - heavy

        return Preparation(self.columns, self.default_country, self.transliterate, self.hashed)

    @property
    def guards(self) -> Guards:
        """The limits of the task."""
        return Guards(min_rows=self.min_rows, max_invalid_ratio=self.max_invalid_ratio)

    def audience_run(self, context: Context) -> AudienceRun:
        """Return what does the work of one try, to be entered.

        :param context: of the task.
        """
        from airflow_provider_fbca.operators.run import AudienceRun  # noqa: PLC0415 - heavy

        self._run = AudienceRun(self, context)
        return self._run

    def check_options(self) -> None:
        """Check the options before anything is looked at.

        :raises OptionsError: names the option at fault.
        """
        self.source.check()
        self.guards  # noqa: B018 - checks its own limits
        if not 1 <= self.batch_size <= _ROWS_A_REQUEST:
            raise OptionsError(f"batch_size is {self.batch_size}.", remedy="Give 1 to 10,000 rows a request.")
        if self.max_concurrency < 1:
            raise OptionsError(f"max_concurrency is {self.max_concurrency}.", remedy="Give at least 1.")
