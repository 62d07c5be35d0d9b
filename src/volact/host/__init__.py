# SPDX-License-Identifier: Apache-2.0
"""KMS host: server on 1688/TCP, counting, DNS publishing, store."""
