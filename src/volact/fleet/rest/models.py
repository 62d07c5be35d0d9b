# SPDX-License-Identifier: Apache-2.0
"""What bodies of the fleet's HTTP API look like.  Names and meanings are the Python API's."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

MOST_NAMES = 10_000
Word = Annotated[str, Field(min_length=1, max_length=253)]
Text = Annotated[str, Field(max_length=4000)]
Number = Annotated[int, Field(ge=0, le=2**53)]
Row = dict[str, Any]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Selection(Body):
    """Machines: these names, or all, that fit the filter.  What changes something wants one of the three."""

    names: list[Word] = Field(default=[], max_length=MOST_NAMES)
    filter: Text = ""
    all: bool = Field(False, description="Every machine is meant, where there are neither names nor a filter.")


class Bulk(Selection):
    dry_run: bool = Field(False, description="Say what would be done, and do nothing.")


class Discover(Body):
    words: list[Word] = Field(min_length=1, max_length=MOST_NAMES, description="Names, addresses, ranges of both.")
    match: list[Word] = Field(default=[], max_length=100)
    tags: list[Word] = Field(default=[], max_length=100)


class Tagging(Selection):
    tags: list[Word] = Field(min_length=1, max_length=100)


class SetMachine(Selection):
    address: Word | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    account: Word | None = None


class SaveView(Body):
    filter: Text = ""
    sort: list[Word] = Field(default=[], max_length=20)
    columns: list[Word] = Field(default=[], max_length=50)
    grouping: list[Word] = Field(default=[], max_length=10)


class InstallKey(Bulk):
    key: Word | None = Field(None, description="Its last five symbols or its ID; without it the recommended ones.")
    product: Word | None = None
    edition: Word | None = None
    prefer: Word = "generic"
    replace: bool = False


class Activate(Bulk):
    product: Word | None = None
    mak: Word = "independent"
    kms: Word = "keep"
    kms_name: Word | None = None
    publisher: Word | None = None
    restore: bool = True
    keep: bool = False
    force: bool = False


class Bootstrap(Bulk):
    artefact: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,199}$")] = Field(
        description="A file's name in the fleet folder's `artefacts`: .whl, .tar.gz or .pyz."
    )
    upgrade: bool = Field(False, description="Also where there is a volact.")


class Collect(Bulk):
    product: Word | None = None
    force: bool = False


class Retry(Body):
    uncertain: bool = False


class AddKeys(Body):
    lines: list[Annotated[str, Field(max_length=400)]] = Field(
        min_length=1, max_length=MOST_NAMES, description="One product key each, a description behind a comma."
    )


class RefreshKeys(Body):
    names: list[Word] = Field(default=[], max_length=1000)


class AddDefinition(Body):
    token: Annotated[str, Field(min_length=1, max_length=200_000)]
    root: Word


class Agreements(Body):
    data: Annotated[str, Field(min_length=1, max_length=4 * 1024 * 1024)] = Field(
        description="CSV or JSON, see the guide."
    )
    source: Word = "api"


class Export(Body):
    kind: Annotated[str, Field(pattern="^(requests|inventory)$")] = "requests"
    machines: list[Word] | None = Field(None, max_length=MOST_NAMES)


class AddSchedule(Body):
    name: Word
    cron: Annotated[str, Field(min_length=1, max_length=100)]
    zone: Word = "UTC"
    kind: Word
    arguments: Row = {}


class MakeToken(Body):
    label: Annotated[str, Field(min_length=1, max_length=100)]
    role: Annotated[str, Field(pattern="^(viewer|operator|administrator)$")]
    days: Annotated[int, Field(ge=1, le=3650)] = 365


class Rows(BaseModel):
    """A part of a list; ``total`` is how many there are in all."""

    rows: list[Row]
    total: int


class Items(BaseModel):
    items: list[Row]


class Affected(BaseModel):
    machines: int


class JobModel(BaseModel):
    """A job; ``tasks`` counts its machines by state.  Times are Unix seconds."""

    id: int
    kind: str
    arguments: Row
    selection: Row
    state: str
    dry_run: bool
    parallel: int
    timeout: int
    made_at: int
    made_by: str
    not_before: int | None
    started_at: int | None
    ended_at: int | None
    tasks: dict[str, int]
