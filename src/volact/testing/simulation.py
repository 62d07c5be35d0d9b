# SPDX-License-Identifier: Apache-2.0
"""A fleet over years, for publishers who try a policy before they sign it: what ``volact simulate`` runs."""

from volact.cli.simulate.fleet import ClockFaults, Fleet, Imaging, Outage, Sample, Scenario, Totals

__all__ = ["ClockFaults", "Fleet", "Imaging", "Outage", "Sample", "Scenario", "Totals"]
