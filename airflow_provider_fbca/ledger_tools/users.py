"""The people whom a person gives to a tool, as the tasks would prepare them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_fbca.operators.users import Preparation, read_users
from airflow_provider_fbca.warehouse import open_uri

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_fbca.identity import PrepareReport
    from airflow_provider_fbca.ledger import RowSets, Snapshot, WorkDir

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UsersFile:
    """A file of people and how its columns are to be read.

    :param uri: a path, or an object-storage URI of Parquet or Arrow IPC.
    :param columns: column -> keys; None to go by the columns' names.
    :param default_country: of rows that name none.
    :param transliterate: spell names and cities in a-z.
    :param hashed: keys whose cells are digests already.
    """

    uri: str
    columns: Mapping[str, list[str]] | None = None
    default_country: str | None = None
    transliterate: bool = False
    hashed: tuple[str, ...] = ()

    def read(self, workdir: WorkDir, sets: RowSets) -> tuple[Snapshot, PrepareReport]:
        """Read the file to its end.

        :returns: its distinct rows, as identifiers only, and what became of the cells.
        :raises SourceError: where it cannot be read.
        :raises MappingError: where its columns make no usable identifier.
        """
        uri = self.uri if "://" in self.uri else str(Path(self.uri).absolute())
        preparation = Preparation(
            self.columns,
            self.default_country,
            self.transliterate,
            dict.fromkeys((key.upper() for key in self.hashed), True) or None,
            removal=True,
        )
        everyone, report = read_users(open_uri(uri), preparation, workdir, value_based=False, rejects=None, log=log)
        return sets.distinct(everyone, "users-distinct.parquet"), report
