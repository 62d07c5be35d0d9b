# SPDX-License-Identifier: Apache-2.0
"""Every way to a licence and back: online, by the directory, the firmware, telephone, or a request that is carried."""
