# SPDX-License-Identifier: Apache-2.0
"""A file tree with the firmware of one computer, laid out as Linux shows it below ``/sys``."""

import struct
from dataclasses import dataclass
from pathlib import Path

from volact.publisher.oem import acpi_table, smbios_string


@dataclass
class FirmwareTree:
    """``root`` stands for ``/``."""

    root: Path

    @classmethod
    def of(
        cls, root: Path, manufacturer: str = "Contoso", product: str = "Book 14",
        uuid: str = "4c4c4544-0042-3510-8052-b4c04f4e4232", serial: str = "5B5RNB2",
    ) -> "FirmwareTree":  # fmt: skip
        tree = cls(root)
        (root / "sys/firmware/acpi/tables").mkdir(parents=True)
        (root / "sys/firmware/dmi/entries").mkdir(parents=True)
        (root / "sys/class/dmi/id").mkdir(parents=True)
        texts = {"sys_vendor": manufacturer, "product_name": product, "product_uuid": uuid, "product_serial": serial}
        for name, text in texts.items():
            tree.say(name, text)
        return tree

    def say(self, name: str, text: str) -> None:
        (self.root / "sys/class/dmi/id" / name).write_text(f"{text}\n")

    @property
    def table(self) -> Path:
        return self.root / "sys/firmware/acpi/tables/VLCT"

    def put(self, token: str) -> None:
        """Into an ACPI table."""
        self.table.write_bytes(acpi_table(token, "CONTSO", "BOOK14"))

    def put_string(self, token: str) -> None:
        """Into an SMBIOS structure of type 11, between strings of somebody else's."""
        folder = self.root / "sys/firmware/dmi/entries/11-0"
        folder.mkdir()
        strings = [b"Asset 7", smbios_string(token).encode(), b"Default string"]
        (folder / "raw").write_bytes(struct.pack("<BBHB", 11, 5, 0x1100, len(strings)) + b"\0".join(strings) + b"\0\0")

    def swap_board(self) -> None:
        """Another board: another UUID, and no marker."""
        self.say("product_uuid", "11111111-2222-4333-8444-666666666666")
        self.table.unlink(missing_ok=True)
