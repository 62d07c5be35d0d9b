# SPDX-License-Identifier: Apache-2.0
"""``volact publisher serve`` and ``answer``: the same answers, over the network and by file."""

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volact.cli.environment import Environment
from volact.cli.files import read_file, write_file
from volact.cli.publisher.shared import Verbs, add_verb, folder, open_publisher, read_passphrase
from volact.client.service import systemd
from volact.core.errors import ConfigError
from volact.core.exchange import MAX_FILE, RequestFile
from volact.publisher.answering.service import Outcome, PublisherService
from volact.publisher.folder.opening import PublisherFolder

if TYPE_CHECKING:
    from volact.web.site import WebListener
    from volact.wire.serve import Beside

DEFAULT_PORT = 1690  # beside the KMS host's 1688, so that both can be tried on one machine
DEFAULT_WEB = "127.0.0.1:1691"
MOST_WORKERS = 64


class WebCertificateError(ConfigError):
    code = "web-certificate-alone"
    fmt = "a certificate needs its key, and a key its certificate"
    remedy = "give --web-certificate and --web-key, or neither"


def build(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "serve",
        _serve,
        "activate hosts and machines over the network",
        """
volact publisher serve --passphrase-file pass.txt
volact publisher serve --listen 127.0.0.1 --port 8080 --workers 2
volact publisher serve --web
volact publisher serve --web 0.0.0.0:8443 --web-certificate fullchain.pem --web-key privkey.pem""",
        passphrase=True,
    )
    parser.add_argument("--listen", default="::", metavar="ADDRESS", help="address (default: every one)")
    parser.add_argument("--port", type=_port, default=DEFAULT_PORT, help="TCP port (default: %(default)s)")
    parser.add_argument("--workers", type=_workers, default=1, metavar="N", help="processes (default: 1)")
    group = parser.add_argument_group("web listener")
    group.add_argument(
        "--web", type=_place, nargs="?", const=_place(DEFAULT_WEB), metavar="ADDRESS:PORT",
        help=f"serve the HTTP API and the desk too, in a process of its own (without an address: {DEFAULT_WEB})",
    )  # fmt: skip
    group.add_argument("--web-certificate", metavar="FILE", help="speak TLS with this certificate chain, in PEM")
    group.add_argument("--web-key", metavar="FILE", help="the certificate's key, in PEM")
    group.add_argument(
        "--web-proxy",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="a reverse proxy that speaks TLS before it, by address; may be given several times",
    )
    group.add_argument(
        "--web-name", metavar="NAME", action="append", default=[],
        help="a further name the desk is reached by; requests for others are refused; may be given several times",
    )  # fmt: skip
    group.add_argument(
        "--web-logins", metavar="FILE", help="let people log in through LDAP or OpenID Connect, as this TOML file says"
    )
    parser = add_verb(
        verbs,
        "answer",
        _answer,
        "answer a request that was carried here from behind an air gap",
        "volact publisher answer host1.volreq -o host1.volans --passphrase-file pass.txt",
        passphrase=True,
    )
    parser.add_argument("request", metavar="REQUEST-FILE", help="made by `volact host activate --request FILE`")
    parser.add_argument("-o", "--output", metavar="ANSWER-FILE", required=True, help="to be carried back")


def _serve(args: argparse.Namespace, env: Environment) -> int:
    from volact.publisher.application import Loader
    from volact.wire.serve import Listener, serve

    path = folder(args, env)
    publisher = PublisherFolder.open(path)
    passphrase = read_passphrase(args, env)
    publisher.open_keys(passphrase)  # a wrong passphrase is said here, once, and not by each worker
    publisher.store().close()  # and so is a database of a later version; tables are brought up to date
    web, logins = _web_listener(args), Path(args.web_logins).absolute() if args.web_logins else None
    beside = None if web is None else _web_server(web, publisher, passphrase, logins, env)
    address = f"[{args.listen}]" if ":" in args.listen else args.listen

    def started() -> None:
        env.say(f"publisher {publisher.name} listens on http://{address}:{args.port}")
        if web is not None:
            env.say(f"its HTTP API is at {web.url}/api/v1")
            env.say(f"its desk is at {web.url}/")
        env.stderr.flush()

    listener = Listener(args.listen, args.port, args.workers)
    others = [] if beside is None else [beside.listener]
    ports = " and ".join(str(one.port) for one in (listener, *others))
    with beside or nullcontext():
        serve(
            Loader(path, passphrase),
            listener,
            on_start=started,
            on_stop=lambda: env.say("stopped"),
            on_ready=systemd.when_ready(env.variables, f"listens on port {ports}"),
            beside=others,
        )
    return 0


def _web_listener(args: argparse.Namespace) -> "WebListener | None":
    """Tokens cross no network in clear text."""
    from volact.web.site import WebListener

    if args.web is None:
        return None
    certificate, key = (Path(one) if one else None for one in (args.web_certificate, args.web_key))
    if (certificate is None) != (key is None):
        raise WebCertificateError()
    address, port = args.web
    listener = WebListener(
        address, port, certificate, key, proxies=tuple(args.web_proxy), names=tuple(args.web_name)
    )  # fmt: skip
    listener.check()
    return listener


def _web_server(
    web: "WebListener", publisher: PublisherFolder, passphrase: bytes, logins: Path | None, env: Environment
) -> "Beside":
    from volact.publisher.desk.application import open_accounts
    from volact.publisher.web import WebLoader
    from volact.web.sign_on.logins import check_logins
    from volact.wire.serve import Beside, Listener

    check_logins(logins, open_accounts(publisher, env.clock))
    listener = Listener(web.address, web.port, certificate=web.certificate, key=web.key)
    return Beside(WebLoader(publisher.path, passphrase, web, logins), listener)


def _answer(args: argparse.Namespace, env: Environment) -> int:
    request = RequestFile.from_bytes(read_file(args.request, MAX_FILE))
    with open_publisher(args, env) as publisher:
        keys = publisher.folder.open_keys(read_passphrase(args, env))
        service = PublisherService(publisher.folder, keys, publisher.store, env.clock)
        answer, outcome = service.answer_file(request)
    write_file(args.output, answer.to_bytes())
    if args.json:
        env.write_json({**_as_json(outcome, env), "output": args.output})
        return 0
    env.say(_sentence(outcome, env))
    env.hint(f"carry {args.output} back to the host; only that host can open it")
    return 0


def _sentence(outcome: Outcome, env: Environment) -> str:
    host = outcome.request.name or outcome.machine.hex()[:16]
    if outcome.refusal is not None:
        return f"refused {host}: {outcome.refusal.error()}"
    if outcome.request.forest is not None:
        forest, until = outcome.request.forest.name, env.show_time(outcome.ends_at)
        return f"{outcome.kind} the forest {forest} for {outcome.organisation}, until {until}"
    ends = "perpetual" if outcome.ends_at is None else f"certificate until {env.show_time(outcome.ends_at)}"
    return f"{outcome.kind} {host} for {outcome.organisation}, {ends}"


def _as_json(outcome: Outcome, env: Environment) -> dict[str, Any]:
    refusal = outcome.refusal
    return {
        "outcome": "refused" if refusal else str(outcome.kind),
        "machine": outcome.machine.hex(),
        "name": outcome.request.name,
        "product": outcome.request.product,
        "organisation": outcome.organisation or None,
        "forest": outcome.request.forest.to_claim() if outcome.request.forest else None,
        "ends_at": env.json_time(outcome.ends_at),
        "refusal": {"code": refusal.code, "fields": dict(refusal.fields)} if refusal else None,
    }


def _place(text: str) -> tuple[str, int]:
    """An address and a port, or a port of the loopback address."""
    address, _, port = text.rpartition(":")
    return address.strip("[]") or "127.0.0.1", _port(port)


def _port(text: str) -> int:
    return _between(text, 1, 65535)


def _workers(text: str) -> int:
    return _between(text, 1, MOST_WORKERS)


def _between(text: str, least: int, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from {least} to {most}")
    return value
