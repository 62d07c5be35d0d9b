# SPDX-License-Identifier: Apache-2.0
"""What all models of the API share: strict requests, times, names.

Requests are strict: unknown members, numbers in quotes and texts with control characters are refused.  Times are
RFC 3339 in UTC outside and Unix seconds inside.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from volact.publisher.administration.opened import MAX_REASON, MOST_LIMIT
from volact.publisher.folder.files import MAX_NAME

LATEST_YEAR = 2200


def show_time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("a time is a text")  # noqa: TRY004 - pydantic's way to say it
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError("a time needs its zone, Z for UTC")
    if not 1970 <= at.year <= LATEST_YEAR:
        raise ValueError(f"a time is between 1970 and {LATEST_YEAR}")
    return max(0, int(at.timestamp()))


def printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("it is not a line of printable characters without spaces at its ends")
    return text


_TIME = {"type": "string", "format": "date-time", "examples": ["2027-03-01T00:00:00Z"]}
Time = Annotated[int, PlainSerializer(show_time), WithJsonSchema(_TIME, mode="serialization")]
TimeIn = Annotated[int, BeforeValidator(read_time), WithJsonSchema(_TIME)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(printable)]
Reason = Annotated[str, Field(max_length=MAX_REASON), AfterValidator(printable)]
Figure = Annotated[int, Field(ge=1, le=MOST_LIMIT)]
KeyId = Annotated[str, Field(examples=["5d1f3c0a9b8e7d6c5b4a39281706f5e4"])]
Partial = Annotated[str, Field(description="The key's last five symbols.", examples=["33GJK"])]
# A whole key is a secret, and an address is logged everywhere.
KeyName = Annotated[str, Field(pattern=r"^([0-9a-f]{32}|[0-9A-Za-z]{5})$")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Shown(BaseModel):
    model_config = ConfigDict(frozen=True)


class Listed(Shown):
    next: str | None = Field(description="`cursor` of the next page; null on the last one.")
