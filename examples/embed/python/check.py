# SPDX-License-Identifier: Apache-2.0
"""A product in Python: the call, the block, the decorator.  No service is needed for it.

python check.py FOLDER PRODUCT ROOT      exit code: 0 licensed, 1 not
"""

import sys

import volact

if len(sys.argv) != 4:
    print("usage: python check.py FOLDER PRODUCT ROOT", file=sys.stderr)
    sys.exit(2)
FOLDER, PRODUCT, ROOT = sys.argv[1:]


@volact.licensed(PRODUCT, root=ROOT, dir=FOLDER)
def export() -> None:
    print("exported")


def main() -> int:
    check = volact.check(PRODUCT, root=ROOT, dir=FOLDER)
    print(f"{check.product}: {check.state}, {check.enforcement}")
    if check.reason is not None:
        print(f"{check.reason.sentence}; {check.reason.remedy}")
    try:
        export()
    except volact.NotLicensedError as exc:  # only where the product's own policy says limit or block
        print(exc.hint)
    return 0 if check else 1


if __name__ == "__main__":
    sys.exit(main())
