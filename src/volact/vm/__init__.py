# SPDX-License-Identifier: Apache-2.0
"""Automatic activation of virtual machines: the VM host, and the guest's side of the channel between them.

``frames``, ``messages``, ``ports``, ``guest`` and ``door`` are the guest's too and need the standard library only;
everything else is the VM host's.
"""
