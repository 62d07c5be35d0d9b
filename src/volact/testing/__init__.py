# SPDX-License-Identifier: Apache-2.0
"""A public kit for tests: a clock that is set, issuers in memory with real keys, machines that never existed.

For publishers who test how their product behaves in each licence state, and for Volact's own tests and demo.  Nothing
here is reachable from the product: an injected clock or fingerprint exists only where a test constructs one.

    site = Site.make(now=1_800_000_000)
    host = site.kms_host()
    machine = simulated_traits(7)
"""

from volact.testing.clock import FakeClock
from volact.testing.issuers import KmsHostSimulator, PublisherSimulator, Site
from volact.testing.machines import simulated_environment, simulated_traits

__all__ = [
    "FakeClock",
    "KmsHostSimulator",
    "PublisherSimulator",
    "Site",
    "simulated_environment",
    "simulated_traits",
]
