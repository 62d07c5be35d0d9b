# SPDX-License-Identifier: Apache-2.0
"""What a publisher grants, and to whom.  Pure: rows, requests, time and random bytes come in, a decision goes out.

``issuing`` requests, and the keys of KMS hosts and VM hosts · ``pools`` MAK and retail keys · ``forests`` activation
objects · ``catalogue`` what a product's file may say · ``roles`` of operators, and what an organisation's token is for.
Imports nothing of the publisher; everything else in it may import this.
"""
