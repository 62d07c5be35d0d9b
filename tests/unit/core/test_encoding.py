# SPDX-License-Identifier: Apache-2.0
"""The strict parser: one spelling of bytes, one reading of JSON, and members that are what they should be."""

import pytest

from volact.core.encoding import MAX_INT, Fields, b64decode, b64encode, dump_object, parse_object
from volact.core.errors import MalformedError


@pytest.mark.parametrize("size", range(9))
def test_bytes_come_back(size):
    assert b64decode(b64encode(bytes(range(size)))) == bytes(range(size))
    assert b64decode(b64encode(b"\xff" * size)) == b"\xff" * size


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "AA==",
        "AA=",
        "AB",
        "AAB",
        "A+/A",
        "AA AA",
        "AAAA\n",
        "\nAAAA",
        "AAAA ",
        "AÄAA",
        "\ud800AAA",
        "AAAA====",
        "AAAAA",
    ],
)
def test_any_other_spelling_of_bytes_is_malformed(text):
    with pytest.raises(MalformedError):
        b64decode(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "[]",
        "null",
        '"text"',
        '{"a":1,"a":1}',
        '{"a":{"b":1,"b":2}}',
        '{"a":1.0}',
        '{"a":1e2}',
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-Infinity}',
        '{"a":9007199254740992}',
        '{"a":-9007199254740992}',
        '{"a":' + "9" * 5000 + "}",
        '{"a":01}',
        '{"a":+1}',
        '{"a":1,}',
        "{'a':1}",
        '{"a":"\n"}',
        '{"a":1}{}',
        "\ufeff{}",
        '{"a":' + "[" * 8 + "]" * 8 + "}",
        '{"a":' + "[" * 100_000,
    ],
    ids=lambda text: text[:24],
)
def test_what_two_readers_could_read_differently_is_malformed(text):
    with pytest.raises(MalformedError):
        parse_object(text.encode(), "object")


@pytest.mark.parametrize("data", [b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xc0\x80"}'])
def test_bytes_that_are_not_utf_8_are_malformed(data):
    with pytest.raises(MalformedError):
        parse_object(data, "object")


def test_whole_numbers_are_exact_up_to_the_largest_that_every_reader_holds():
    assert parse_object(b'{"a":9007199254740991,"b":-9007199254740991}', "object") == {"a": MAX_INT, "b": -MAX_INT}


def test_an_object_is_written_in_one_way():
    assert dump_object({"b": 1, "a": "é", "c": [True, None]}) == '{"b":1,"a":"é","c":[true,null]}'.encode()


class TestFields:
    """Members of the wrong kind are malformed, and the error names them."""

    fields = Fields(
        {
            "text": "abc",
            "empty": "",
            "escape": "a\x1b[2J",
            "mark": "a\u202eb",
            "surrogate": "\ud800",
            "number": 7,
            "negative": -1,
            "yes": True,
            "bytes": "AAAA",
            "object": {"inner": 1},
            "list": [1, 2],
            "texts": ["a", "b"],
            "mixed": [1, "a", -1, True],
            "null": None,
        },
        "thing",
    )

    def test_members_of_the_right_kind_are_read(self):
        fields = self.fields
        assert (fields.text("text"), fields.text("empty", least=0), fields.optional_text("none")) == ("abc", "", None)
        assert (fields.integer("number"), fields.boolean("yes"), fields.octets("bytes")) == (7, True, bytes(3))
        assert (fields.integers("list"), fields.texts("texts"), fields.mapping("object")) == (
            (1, 2),
            ("a", "b"),
            {"inner": 1},
        )
        assert fields.fields("object").integer("inner") == 1
        assert "text" in fields
        assert "none" not in fields

    @pytest.mark.parametrize(
        ("method", "name", "limits"),
        [
            ("text", "none", {}),
            ("text", "number", {}),
            ("text", "empty", {}),
            ("text", "text", {"most": 2}),
            ("text", "escape", {}),
            ("text", "mark", {}),
            ("text", "surrogate", {}),
            ("text", "null", {}),
            ("optional_text", "null", {}),
            ("integer", "yes", {}),
            ("integer", "text", {}),
            ("integer", "negative", {}),
            ("integer", "number", {"most": 6}),
            ("integer", "number", {"least": 8}),
            ("boolean", "number", {}),
            ("boolean", "null", {}),
            ("octets", "bytes", {"size": 4}),
            ("octets", "bytes", {"most": 2}),
            ("octets", "escape", {}),
            ("octets", "number", {}),
            ("fields", "list", {}),
            ("mapping", "list", {}),
            ("items", "object", {}),
            ("items", "list", {"most": 1}),
            ("integers", "mixed", {}),
            ("texts", "mixed", {}),
        ],
    )
    def test_any_other_is_malformed(self, method, name, limits):
        with pytest.raises(MalformedError) as caught:
            getattr(self.fields, method)(name, **limits)
        assert name in str(caught.value) or caught.value.what.startswith("thing")

    def test_a_missing_member_is_called_missing_and_a_wrong_one_wrong(self):
        with pytest.raises(MalformedError, match="none is missing"):
            self.fields.text("none")
        with pytest.raises(MalformedError, match="number is wrong"):
            self.fields.text("number")
