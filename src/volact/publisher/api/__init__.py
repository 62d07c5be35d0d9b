# SPDX-License-Identifier: Apache-2.0
"""The publisher's HTTP API, ``/api/v1``: what organisations and operators do with a token, beside the activation
service that machines talk to.

It decides nothing: it reads a request, asks ``administration``, ``phone``, ``service`` and ``listing``, and shows what
they say.  Where to find what: ``access`` who may do what (one table), ``models`` the vocabulary, ``office`` what every
request needs, ``route`` what happens to each request before and after, one file for each kind of thing, ``application``
puts them together.  Guide: docs/guide/publisher-api.md.  Why so: docs/adr/0023-http-api.md.
"""
