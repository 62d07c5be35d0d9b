# SPDX-License-Identifier: Apache-2.0
"""The directory room: activation objects in Active Directory and LDAP.  Spec: docs/spec/activation-object.md.

library      bonsai, imported at its first use
connection   one authenticated session with a directory server; its errors by our names
locate       the domain controllers of a domain, by DNS; this machine's account, by its keytab
site         in which site of Active Directory this computer is
place        which forest a directory is, and where its activation objects lie
schema       our classes and attributes, as Active Directory and OpenLDAP are told of them
prepare      the plan of changes to a directory, and carrying it out
objects      activation objects as entries: read, store, remove
permissions  who may read an object, in words
activation   asking the publisher for an object, online or by file
door         what the licensing service of a member computer does with all this

Needs the package's extra ``directory``.  Nothing but ``cli`` may import it; the client takes the door as a plug.
"""
