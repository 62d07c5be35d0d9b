# SPDX-License-Identifier: Apache-2.0
"""A file tree with the firmware of one computer, laid out as Linux shows it below ``/sys``."""

import struct
from dataclasses import dataclass
from pathlib import Path

from volact.publisher.administration.oem import acpi_table, smbios_string


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

    def put_structures(self, *tokens: str) -> None:
        """The same in the one file with all structures, among others."""
        folder = self.root / "sys/firmware/dmi/tables"
        folder.mkdir(exist_ok=True)
        system = struct.pack("<BBH4B", 1, 8, 0x0100, 1, 2, 0, 0) + b"Contoso\0Book 14\0\0"
        chassis = struct.pack("<BBHB", 3, 5, 0x0300, 3) + b"\0\0"
        end = struct.pack("<BBH", 127, 4, 0x7F00) + b"\0\0"
        marked = [
            struct.pack("<BBHB", 11, 5, 0x1100 + n, 2) + b"Asset\0" + smbios_string(one).encode() + b"\0\0"
            for n, one in enumerate(tokens)
        ]
        (folder / "DMI").write_bytes(system + chassis + b"".join(marked) + end)

    def swap_board(self) -> None:
        """Another board: another UUID, and no marker."""
        self.say("product_uuid", "11111111-2222-4333-8444-666666666666")
        self.table.unlink(missing_ok=True)
