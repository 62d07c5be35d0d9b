# SPDX-License-Identifier: Apache-2.0
"""``prepare`` and ``schema``: what a directory needs before it can hold activation objects."""

import argparse
from typing import Any

from volact.cli.directory.shared import add_connection, session
from volact.cli.environment import Environment, counted
from volact.cli.options import add_verb
from volact.directory import prepare, schema

FORMATS = {"openldap": schema.openldap_file, "openldap-ldif": schema.openldap_ldif, "ad-ldif": schema.ad_ldif}


def build(group: Any) -> None:
    verb = add_verb(
        group,
        "prepare",
        "make room for activation objects in the directory; shows the changes first",
        run_prepare,
        examples=[
            "volact directory prepare --domain ad.example.com          # show what would be changed",
            "volact directory prepare --domain ad.example.com --yes    # and change it",
            "volact directory prepare --no-schema --yes                # use standard classes only",
            "volact directory prepare --base dc=example,dc=com --server ldap.example.com --ca-file ca.pem \\",
            "    --user cn=admin,dc=example,dc=com --yes               # a plain LDAP directory",
        ],
    )
    verb.add_argument("--no-schema", action="store_true", help="leave the schema alone; objects use standard classes")
    verb.add_argument("--yes", action="store_true", help="make the changes")
    add_connection(verb)
    printed = add_verb(
        group,
        "schema",
        "print the class and its attributes, for those who extend schemas with files",
        run_schema,
        examples=["volact directory schema --format openldap > /etc/ldap/schema/volact.schema"],
    )
    printed.add_argument("--format", choices=sorted(FORMATS), default="openldap", help="(default: %(default)s)")


def run_prepare(args: argparse.Namespace, env: Environment) -> int:
    with session(args, env) as opened:
        plan = prepare.make_plan(opened, args.base, standard=args.no_schema)
        if args.yes:
            prepare.carry_out(opened, plan)
        server = str(opened.server)
    if env.json:
        steps = [{"what": step.what, "dn": step.dn, "schema": step.of_schema} for step in plan.steps]
        env.write_json({"server": server, "steps": steps, "done": bool(args.yes)})
        return 0
    for step in plan.steps:
        env.write(f"{step.what}\n    {step.dn}")
    lasting = any(step.of_schema for step in plan.steps) and args.base is None
    _conclude(env, len(plan.steps), done=args.yes, lasting=lasting)
    return 0


def run_schema(args: argparse.Namespace, env: Environment) -> int:
    text = FORMATS[args.format]()
    if env.json:
        env.write_json({"format": args.format, "schema": text})
    else:
        env.write(text.rstrip("\n"))
    return 0


def _conclude(env: Environment, steps: int, *, done: bool, lasting: bool) -> None:
    changes = counted(steps, "change")
    if not steps:
        env.say("the directory is prepared; nothing to change")
    elif done:
        env.say(f"made {changes}")
        env.hint("next: `volact directory activate`")
    else:
        env.say(f"{changes} would be made; nothing was changed yet")
        caution = "; schema changes of Active Directory cannot be undone" if lasting else ""
        env.hint(f"make them with the same command and --yes{caution}")
