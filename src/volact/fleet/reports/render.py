# SPDX-License-Identifier: Apache-2.0
"""The formats a report comes in, by name.  Each renderer is imported when it is asked for: they are heavy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from volact.core.errors import InputError
from volact.fleet.reports.report import Report


class FormatUnknownError(InputError):
    code = "report-format-unknown"
    fmt = "there is no report format {format}"
    remedy = "choose one of: {known}"


class FontNotHeededError(InputError):
    code = "report-font-unfit"
    fmt = "a report as {format} takes no font: its reader has the fonts"
    remedy = "leave --font out, or ask for a PDF"


@dataclass(frozen=True, slots=True)
class Format:
    """``ending`` of its files, ``media`` as in HTTP and mail."""

    name: str
    ending: str
    media: str
    renderer: str

    def render(self, report: Report, fonts: Sequence[Path] = ()) -> bytes:
        """``fonts``: where a PDF finds letters that its own font and this computer's lack."""
        if fonts and self.name != PDF:
            raise FontNotHeededError(format=self.name)
        module, _, function = self.renderer.partition(":")
        draw: Callable[..., bytes] = getattr(import_module(f"volact.fleet.reports.{module}"), function)
        return draw(report, fonts) if fonts else draw(report)


PDF = "pdf"
FORMATS = {
    one.name: one
    for one in (
        Format("json", "json", "application/json", "data:to_json"),
        Format("csv", "csv", "text/csv; charset=utf-8", "data:to_csv"),
        Format("xlsx", "xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx:to_xlsx"),
        Format("html", "html", "text/html; charset=utf-8", "html:to_html"),
        Format(PDF, "pdf", "application/pdf", "pdf:to_pdf"),
    )
}


def find_format(name: str) -> Format:
    found = FORMATS.get(name.lower())
    if found is None:
        raise FormatUnknownError(format=name, known=", ".join(FORMATS))
    return found


def format_of_file(path: str) -> Format:
    """By the file's ending."""
    return find_format(path.rpartition(".")[2] if "." in path else path)


def render(report: Report, name: str, fonts: Sequence[Path] = ()) -> bytes:
    """The file's bytes."""
    return find_format(name).render(report, fonts)
