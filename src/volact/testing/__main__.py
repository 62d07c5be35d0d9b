# SPDX-License-Identifier: Apache-2.0
"""``python -m volact.testing --machine 7 -- client status --dir …``: the command line as a simulated machine."""

import sys

from volact.testing.machines import main

if __name__ == "__main__":
    sys.exit(main())
