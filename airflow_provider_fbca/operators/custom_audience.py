"""Operators that create, fill, empty and refresh Meta custom audiences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_fbca.exceptions import OptionsError
from airflow_provider_fbca.links.ads_manager import LINK_KEY, audience_url
from airflow_provider_fbca.operators.base import AudienceOperator, UsersOperator
from airflow_provider_fbca.operators.lineage import report_lineage
from airflow_provider_fbca.operators.rim import fails_fast
from airflow_provider_fbca.sync import STRATEGIES, Guards, plan_removal, plan_upload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_provider_fbca.sync import Strategy


class FacebookCreateCustomAudienceOperator(AudienceOperator):
    """Creates a custom audience for a customer list, or finds the one of that name.

    Meta does not keep names unique and a creation cannot be repeated safely, so by default an audience of the same name
    is reused, also by a retry whose first request was answered after the connection broke.

    :param name: of the audience; at Meta a name that speaks of health or money may get the audience flagged.
    :param description: for people, empty by default.
    :param customer_file_source: where the list comes from: ``USER_PROVIDED_ONLY`` (the default),
        ``PARTNER_PROVIDED_ONLY`` or ``BOTH_USER_AND_PARTNER_PROVIDED``.
    :param is_value_based: whether each person carries a LOOKALIKE_VALUE; off by default.
    :param retention_days: days after which people drop out, 1 to 180; by default they stay.
    :param if_exists: ``reuse`` (the default) an audience of that name, or ``fail``.
    :returns: the audience's id, as XCom.

    .. seealso:: https://developers.facebook.com/docs/marketing-api/reference/ad-account/customaudiences
    """

    template_fields: Sequence[str] = (*AudienceOperator.template_fields, "name", "description")

    def __init__(
        self,
        *,
        name: str,
        description: str = "",
        customer_file_source: str = "USER_PROVIDED_ONLY",
        is_value_based: bool = False,
        retention_days: int | None = None,
        if_exists: Literal["reuse", "fail"] = "reuse",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.description = description
        self.customer_file_source = customer_file_source
        self.is_value_based = is_value_based
        self.retention_days = retention_days
        self.if_exists = if_exists

    @fails_fast
    def execute(self, context: Context) -> str:
        """Find or create the audience."""
        if self.if_exists not in {"reuse", "fail"}:
            raise OptionsError(f"if_exists is {self.if_exists!r}.", remedy="Give 'reuse' or 'fail'.")
        audience_id = self.hook.find_or_create_audience(
            self.name,
            description=self.description,
            customer_file_source=self.customer_file_source,
            is_value_based=self.is_value_based,
            retention_days=self.retention_days,
            reuse=self.if_exists == "reuse",
        )
        context["ti"].xcom_push(LINK_KEY, audience_url(audience_id, self.hook.account_id))
        return audience_id


class FacebookDeleteCustomAudienceOperator(AudienceOperator):
    """Deletes a custom audience for good; ads that use it stop.

    Its ledger entries are retired and their rows deleted, under the audience's lease, once Meta has deleted it; of an
    audience that Meta does not find they stay, since it may only be hidden from the token (``fbca ledger forget``
    removes them).

    :param audience_id: id of the audience.
    :param ledger_uri: where the ledger is; by default ``[fbca] ledger_uri``. Where neither is set, nothing is retired.
    :param ignore_missing: succeed where it does not exist (any more), on by default. Meta does not tell a missing
        audience from one that the token may not see, so the log warns.

    .. seealso:: https://developers.facebook.com/docs/marketing-api/reference/custom-audience
    """

    template_fields: Sequence[str] = (*AudienceOperator.template_fields, "audience_id", "ledger_uri")
    operator_extra_links = ()

    def __init__(
        self, *, audience_id: str, ledger_uri: str | None = None, ignore_missing: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.audience_id = audience_id
        self.ledger_uri = ledger_uri
        self.ignore_missing = ignore_missing

    @fails_fast
    def execute(self, context: Context) -> None:
        """Delete the audience, then forget who was in it."""
        from airflow_provider_fbca.operators.deletion import delete_audience  # noqa: PLC0415 - heavy

        delete_audience(self, context)


class FacebookUploadUsersOperator(UsersOperator):
    """Adds users to a custom audience; nobody is removed.

    The hashed rows are stored in the ledger and marked as possibly sent before the first request, so that a later
    refresh knows them whatever happens. A retry of the same run goes on where it stopped, within 24 hours and where
    nothing has changed; else, and always with ``users_callable``, it reads the source again and sends all of it, which
    changes nothing for people who are in already.

    :returns: the manifest, as XCom ``return_value`` and under ``fbca_upload:<audience_id>``.

    .. seealso:: https://developers.facebook.com/docs/marketing-api/reference/custom-audience/users
    """

    @fails_fast
    def execute(self, context: Context) -> dict[str, Any]:
        """Read, prepare and send the users."""
        self.check_options()
        with self.audience_run(context) as run:
            return run.carry_out(lambda users: (plan_upload(run.sets.all_of(users)), None), kind="upload")


class FacebookRemoveUsersOperator(UsersOperator):
    """Removes users from a custom audience.

    Meta removes a person, not a row: whoever matches any identifier that is sent is out. The rows are stored in the
    ledger as a removal before the first request; until the next refresh nobody counts as surely in.

    :param max_removals: most rows that may be removed; by default any number.
    :returns: the manifest, as XCom ``return_value`` and under ``fbca_upload:<audience_id>``.

    .. seealso:: https://developers.facebook.com/docs/marketing-api/reference/custom-audience/users
    """

    #: An empty list of people who left is an ordinary day.
    default_min_rows: ClassVar[int] = 0
    removes: ClassVar[bool] = True

    def __init__(self, *, max_removals: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_removals = max_removals

    @property
    def guards(self) -> Guards:
        """The limits of the task."""
        return Guards(min_rows=self.min_rows, max_invalid_ratio=self.max_invalid_ratio, max_removals=self.max_removals)

    @fails_fast
    def execute(self, context: Context) -> dict[str, Any]:
        """Read, prepare and remove the users."""
        self.check_options()
        with self.audience_run(context) as run:
            return run.carry_out(lambda users: (plan_removal(run.sets.identities_of(users)), None), kind="remove")


class FacebookRefreshAudienceOperator(UsersOperator):
    """Makes a custom audience equal to the rows of its source.

    What earlier tasks sent is known from the ledger, checked against the manifests that they left in XCom. Removals
    come before additions: Meta removes a person, not a row. The new rows are stored and marked as possibly sent before
    the first request: after a failure at any point the next successful refresh removes whatever was sent. A retry of
    the same run goes on where it stopped, within 24 hours and where nothing has changed; else, and always with
    ``users_callable`` or ``strategy="replace"``, it reads the source again and begins a new entry.

    :param strategy: ``delta`` (the default) removes the rows that the source no longer has and adds those that are new,
        changed, or share an identifier with a removed one; nothing is sent where nothing changed. ``delete_insert``
        removes all that may be in the audience and then adds every row of the source, so the audience is briefly small.
        ``replace`` hands Meta one list that takes the place of all, and waits until Meta has applied it; it also clears
        people whom the ledger does not know.
    :param resend_all_days: ``delta`` sends every row again once the last time is this many days ago, 7 by default: it
        reaches people who joined Meta since. 0 for always.
    :param previous_upload: an earlier manifest of this audience, usually the output of an upload task: the ledger must
        know its entries. By default the manifests of this task's earlier runs are looked up.
    :param max_removals: most rows that may leave for good; by default any number.
    :param max_removal_ratio: largest share (0 to 1) of the rows now in the audience that may leave for good; by default
        any.
    :param allow_empty: let a source without a row empty the audience; off by default, whatever ``min_rows`` is. Rows
        that all turn out unusable never do.
    :param wait_until_ready: once all is sent and the lease is given back, wait until Meta shows the audience as ready
        (``operation_status`` and ``delivery_status``), for 25 hours at most and in the triggerer where the task is
        ``deferrable``; off by default. It does not tell whether this very change has landed: that is what
        ``FacebookCustomAudienceSensor(updated_after=...)`` is for.
    :returns: the manifest, as XCom ``return_value`` and under ``fbca_upload:<audience_id>``.

    .. seealso:: https://developers.facebook.com/docs/marketing-api/reference/custom-audience/users
    """

    template_fields: Sequence[str] = (*UsersOperator.template_fields, "previous_upload")

    def __init__(
        self,
        *,
        strategy: Strategy = "delta",
        resend_all_days: float = 7,
        previous_upload: Mapping[str, Any] | None = None,
        max_removals: int | None = None,
        max_removal_ratio: float | None = None,
        allow_empty: bool = False,
        wait_until_ready: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.strategy = strategy
        self.resend_all_days = resend_all_days
        self.previous_upload = previous_upload
        self.max_removals = max_removals
        self.max_removal_ratio = max_removal_ratio
        self.allow_empty = allow_empty
        self.wait_until_ready = wait_until_ready

    @property
    def guards(self) -> Guards:
        """The limits of the task."""
        return Guards(
            min_rows=self.min_rows,
            empties=True,
            allow_empty=self.allow_empty,
            max_removals=self.max_removals,
            max_removal_ratio=self.max_removal_ratio,
            max_invalid_ratio=self.max_invalid_ratio,
        )

    @property
    def may_be_put_off(self) -> bool:
        """A replace is one session from its first row to its last, and never resumed (rule L10)."""
        return super().may_be_put_off and self.strategy != "replace"

    def check_options(self) -> None:
        """Check the options before anything is looked at."""
        super().check_options()
        if self.strategy not in STRATEGIES:
            raise OptionsError(f"strategy is {self.strategy!r}.", remedy=f"Give one of: {', '.join(STRATEGIES)}.")
        if not self.resend_all_days >= 0:
            raise OptionsError(f"resend_all_days is {self.resend_all_days}.", remedy="Give a number of days, or 0.")

    @fails_fast
    def execute(self, context: Context) -> dict[str, Any]:
        """Read and prepare the users, compare them with what may be in the audience, remove, add."""
        self.check_options()
        with self.audience_run(context) as run:
            run.check_ledger(clears_all=self.strategy == "replace")
            manifest = run.carry_out(
                lambda users: run.plan_refresh(users, strategy=self.strategy, resend_all_days=self.resend_all_days),
                kind="refresh",
                strategy=self.strategy,
            )
        if self.wait_until_ready:
            from airflow_provider_fbca.operators.waiting import wait_for_meta  # noqa: PLC0415 - heavy

            wait_for_meta(self, manifest, check_stop=run.check_stop)
        return manifest

    @fails_fast
    def finish(
        self,
        context: Context,  # noqa: ARG002 - Airflow's signature
        event: Mapping[str, Any],
        manifest: dict[str, Any],
    ) -> dict[str, Any]:
        """Take in what the trigger has found on whether the audience is ready.

        :param context: of the task.
        :param event: of the trigger.
        :param manifest: of what was sent before.
        """
        from airflow_provider_fbca.triggers.custom_audience import refuse_failure  # noqa: PLC0415 - heavy

        refuse_failure(event)
        # What the process before this one reported is gone with it.
        report_lineage(self, audience_id=manifest["audience_id"], account_id=manifest["ad_account_id"])
        return manifest
