# SPDX-License-Identifier: Apache-2.0
"""What a KMS host and a VM host share: their folder of installed host keys, how they are activated by the publisher,
and the rules by which they serve a request.  Neither knows of the other; each says by its ``Kind`` what it is.
"""
