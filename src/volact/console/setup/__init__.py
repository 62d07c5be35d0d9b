# SPDX-License-Identifier: Apache-2.0
"""The Set up wizard without its pages: which steps there are, what each would run, what is remembered in between.

``steps`` is the order, ``state`` what the session holds, ``host`` and ``directory`` turn a form into command lines.
Pages are in ``pages.setup``.
"""
