# SPDX-License-Identifier: Apache-2.0
"""What every HTTP API has: tokens, rate limits, pages of a list, requests sent twice, problem documents."""
