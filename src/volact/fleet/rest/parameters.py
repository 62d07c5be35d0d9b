# SPDX-License-Identifier: Apache-2.0
"""What endpoints of the fleet's HTTP API take and give alike: parameters with their bounds, lists of words, files."""

from typing import Annotated, Any

from fastapi import Body, Path, Query, Response

from volact.fleet.rest.models import JobModel

MOST_ROWS, MOST_OFFSET = 1000, 2**31 - 1
Filter = Annotated[str, Query(max_length=4000, description="The filter language of lists.")]
Sort = Annotated[str, Query(max_length=200, description="Columns with commas, a minus for the other direction.")]
Columns = Annotated[str, Query(max_length=400, description="Columns with commas; the usual ones where none is given.")]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS)]
Offset = Annotated[int, Query(ge=0, le=MOST_OFFSET)]
Second = Annotated[int, Query(ge=0, le=2**40)]
Name = Annotated[str, Path(min_length=1, max_length=253)]
JobId = Annotated[int, Path(ge=1, le=2**31 - 1)]
Bundle = Annotated[bytes, Body(media_type="application/octet-stream")]
JOB: dict[str, Any] = {"status_code": 202, "response_model": JobModel}


def words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def attachment(data: bytes, media: str, name: str) -> Response:
    return Response(data, media_type=media, headers={"Content-Disposition": f'attachment; filename="{name}"'})
