# SPDX-License-Identifier: Apache-2.0
"""A product that asks for its licence: what it does in each case is its publisher's policy, never a crash.

    python examples/check_in_product.py --root sha256:…

A real product embeds its publisher's root fingerprint as a constant instead of reading it from the command line: the
root is what makes a licence believable, so it must not come from where the licence comes from.
"""

import argparse
import sys
from pathlib import Path

import volact

PRODUCT, LEAST_DEFINITION = "acme-cad", 1
REMIND_DAYS = 14


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, metavar="sha256:…", help="the publisher's root (embed it instead)")
    parser.add_argument("--dir", type=Path, help="the client's folder, where it is not the usual one")
    args = parser.parse_args()

    licence = volact.check(PRODUCT, root=args.root, min_version=LEAST_DEFINITION, dir=args.dir)
    if licence and (licence.days_left is None or licence.days_left > REMIND_DAYS):
        print(f"{PRODUCT}: licensed, edition {licence.edition}")
        return 0
    if licence:
        print(f"{PRODUCT}: licensed, and its lease ends in {licence.days_left} days")
        return 0
    return without_licence(licence)


def without_licence(licence: volact.Check) -> int:
    """In grace a product runs on; what comes after is what the publisher's signed policy says for the state."""
    assert licence.reason is not None
    print(f"{PRODUCT}: {licence.state}: {licence.reason.sentence}", file=sys.stderr)
    print(f"{PRODUCT}: {licence.reason.remedy}", file=sys.stderr)
    match licence.enforcement:
        case "count-only":
            print(f"{PRODUCT}: running")
        case "warn":
            print(f"{PRODUCT}: running, with a notice in the window's title")
        case "limit":
            print(f"{PRODUCT}: running read-only")
        case _:
            print(f"{PRODUCT}: showing the activation page")
    return 0


if __name__ == "__main__":
    sys.exit(main())
