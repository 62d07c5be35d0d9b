# SPDX-License-Identifier: Apache-2.0
"""The fleet tool's HTTP API, ``/api/v1``: the verbs of ``volact fleet`` for other programs, with tokens and roles.

It decides nothing: it reads a request, calls the method of the same name of :class:`volact.fleet.api.Fleet`, and shows
what that says.  ``access`` says who may do what (one table), ``models`` what bodies look like, ``office`` what every
request needs, ``inventory``, ``jobs``, ``keys``, ``reports`` and ``who`` are the endpoints, ``application`` puts them
together.  Guide: docs/guide/fleet-api.md.
"""
