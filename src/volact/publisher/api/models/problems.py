# SPDX-License-Identifier: Apache-2.0
"""Problem documents (RFC 9457), and the list of what they can be about."""

from typing import Any

from pydantic import Field

from volact.publisher.api.models.base import Shown


class Problem(Shown):
    """RFC 9457.  Programs compare ``code`` and read ``fields``; people read ``detail`` and ``remedy``."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    remedy: str
    fields: dict[str, Any]


class ProblemType(Shown):
    code: str
    type: str
    title: str
    status: int
    detail: str = Field(description="The sentence; words in braces are fields.")
    remedy: str
    documentation: str = Field(description="Its section in the reference of errors.")


class ProblemTypes(Shown):
    items: list[ProblemType]
