# SPDX-License-Identifier: Apache-2.0
"""What was bought, from files of others."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.fleet.keys.agreements import AgreementsError, Bought, parse


def test_csv_with_a_heading_is_read() -> None:
    data = b"\xef\xbb\xbfAgreement,Group,Quantity,Product,Ends\nEA-1,101,250,acme-cad,2027-12-31\nEA-1,102,20,,\n"
    assert parse(data) == [Bought("EA-1", 101, 250, "acme-cad", "", None, 1_830_211_200), Bought("EA-1", 102, 20)]


def test_what_the_publisher_prints_is_read() -> None:
    printed = [{"agreement": "EA-1", "organisation": "Example", "starts_at": "2026-01-01T00:00:00Z", "ends_at": None,
                "added_at": "2026-01-01T00:00:00Z", "quantities": {"101": 250, "102": 20}}]  # fmt: skip
    found = parse(json.dumps(printed).encode())
    assert [(one.name, one.product_group, one.quantity, one.starts_at) for one in found] == [
        ("EA-1", 101, 250, 1_767_225_600),
        ("EA-1", 102, 20, 1_767_225_600),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff", b"a,b\n1,2\n", b"agreement,group,quantity\nEA,x,1\n", b"agreement,group,quantity\n,1,1\n",
        b"agreement,group,quantity\nEA,1,1\nEA,1,2\n", b"agreement,group,quantity,ends\nEA,1,1,soon\n", b"[1]", b"{",
        b'[{"agreement": "EA", "quantities": {"1": -1}}]', b'[{"agreement": 5, "quantities": {"1": 1}}]',
    ],
)  # fmt: skip
def test_a_file_that_says_something_else_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(AgreementsError):
        parse(data)


@given(
    st.one_of(
        st.binary(max_size=200), st.text(alphabet='agreement,groupquantity\n"1{}[]:', max_size=200).map(str.encode)
    )
)
def test_any_bytes_parse_or_are_refused_by_name(data: bytes) -> None:
    try:
        parse(data)
    except AgreementsError:
        return
