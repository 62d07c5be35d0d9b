# SPDX-License-Identifier: Apache-2.0
"""What machines sent by somebody's hand: sealed requests, proofs of return, digits; one by one and many at once."""

import json
import secrets

import pytest

from volact.core.exchange import AnswerFile, RequestFile
from volact.core.phone import InstallationId, Subject
from volact.core.product_key import Channel, ProductKey
from volact.core.refusal import SignedRefusal
from volact.publisher.rules.roles import Role, Scope
from volact.sealing.returns import sign_return
from volact.sealing.verify import TrustedLicence


def volreq(machine, key, **changes):
    request = machine.request(key, **changes)
    site = machine.site
    file = RequestFile(site.folder.fingerprint, request.product, request.issuer, machine.seal(request))
    return request, json.loads(file.to_bytes())


def read(machine, request, answer):
    return machine.read(request, AnswerFile.from_bytes(json.dumps(answer).encode()).sealed)


def digits(site, key, number=1):
    edition = site.publisher.newest("acme-cad").editions[0]
    issued = site.issued(key)
    subject = Subject(site.folder.fingerprint, "acme-cad", edition.id, edition.group, issued.key_id)
    machine = site.machine(number)
    serial = int.from_bytes(secrets.token_bytes(2))
    return str(
        InstallationId.new(subject, Channel.MAK, machine.signer.machine, machine.fingerprint, site.clock(), serial)
    )


def test_a_carried_request_is_answered_again_the_same_and_counted_once(api):
    key, machine = api.site.pool_key(2), api.site.machine()
    request, body = volreq(machine, key)
    token = api.operator(Role.OPERATOR)
    first, again = api.post("/exchange", token, body), api.post("/exchange", token, body)
    assert (first["outcome"], again["outcome"]) == ("activated", "repeated")
    assert first["organisation"] == "Example Ltd"
    assert isinstance(read(machine, request, first["answer"]), TrustedLicence)
    assert isinstance(read(machine, request, again["answer"]), TrustedLicence)
    assert api.site.issued(key).used == 1
    (row,) = [row for row in api.site.publisher.store.ledger() if row.act == "machine-activated"]
    assert row.actor.startswith("token ")


def test_a_refusal_is_an_answer_too(api):
    key, machine = api.site.pool_key(1), api.site.machine(2)
    api.site.machine(1).ask(key)
    request, body = volreq(machine, key)
    shown = api.post("/exchange", api.operator(), body)
    assert (shown["outcome"], shown["refusal"]["code"]) == ("refused", "activations-exhausted")
    assert isinstance(read(machine, request, shown["answer"]), SignedRefusal)


def test_what_is_no_request_is_named(api):
    _, body = volreq(api.site.machine(), api.site.pool_key(1))
    token = api.operator()
    for changes, code in (
        ({"root": "sha256:" + "0" * 64}, "issuer-unknown"),
        ({"issuer": "x"}, "issuer-unknown"),
        ({"sealed": "AAAA"}, "seal-broken"),
        ({"sealed": "!"}, "malformed"),
    ):
        got = api.refused("POST", "/exchange", token, json={**body, **changes})
        assert got[1] in (code, "malformed"), (changes, got)


def test_an_organisations_token_answers_requests_with_its_own_keys_only(api, other):
    key, machine = api.site.pool_key(1), api.site.machine()
    _, body = volreq(machine, key)
    assert api.refused("POST", "/exchange", other, json=body) == (404, "key-not-issued")
    assert api.site.issued(key).used == 0
    assert api.post("/exchange", api.organisation(Scope.EXCHANGE_ANSWER), body)["outcome"] == "activated"
    # A key that nobody has is refused to whoever asks, as the service does it.
    tag = ProductKey.parse(key).publisher_tag
    stray = str(ProductKey.new(Channel.MAK, tag, 102, secrets.token_bytes(7)))
    _, body = volreq(machine, stray)
    assert api.post("/exchange", other, body)["refusal"]["code"] == "key-unknown"


def test_a_return_is_taken_once_and_its_answer_given_again(api, other):
    key, machine = api.site.pool_key(2), api.site.machine()
    licence = machine.ask(key).licence
    proof = sign_return(machine.proof(licence, response_key=b""), machine.signer.key)
    assert api.refused("POST", "/returns", other, json={"proof": proof}) == (404, "key-not-issued")
    token, headers = api.organisation(Scope.RETURNS_WRITE), {"Idempotency-Key": "r-1"}
    taken = api.post("/returns", token, {"proof": proof}, headers=headers)
    assert (taken["credited"], taken["used"], taken["remaining"]) == (True, 0, 2)
    assert api.post("/returns", token, {"proof": proof}, headers=headers) == taken
    assert api.refused("POST", "/returns", token, json={"proof": proof}) == (409, "activation-returned")
    assert api.refused("POST", "/returns", token, json={"proof": "a.b.c"})[0] == 422
    api.site.publisher.store.check_ledger()


def test_a_call_is_looked_up_and_confirmed(api, other):
    key, token = api.site.pool_key(3), api.operator(Role.PHONE)
    said = digits(api.site, key)
    call = api.post("/phone/calls", token, {"installation_id": said})
    assert (call["caller"], call["organisation"], call["remaining"], call["held"]) == (
        "machine", "Example Ltd", 3, False,
    )  # fmt: skip
    body = {"installation_id": said, "key": key[-5:], "reason": "Mr Smith, no network"}
    first, again = api.post("/phone/confirmations", token, body), api.post("/phone/confirmations", token, body)
    assert (first["kind"], again["kind"]) == ("activated", "repeated")
    assert first["confirmation_id"] == again["confirmation_id"]
    assert (len(first["groups"]), again["remaining"]) == (20, 2)
    assert api.refused("POST", "/phone/calls", other, json={"installation_id": said}) == (404, "phone-caller-unknown")
    assert api.refused("POST", "/phone/confirmations", other, json=body) == (404, "phone-caller-unknown")
    wrong = {**body, "key": "33333" if key[-5:] != "33333" else "44444"}
    assert api.refused("POST", "/phone/confirmations", token, json=wrong) == (409, "phone-caller-key")
    typo = {"installation_id": said[:-1] + str((int(said[-1]) + 1) % 10)}
    answer = api.call("POST", "/phone/calls", token, json=typo)
    assert (answer.json()["code"], answer.json()["fields"]["groups"]) == ("phone-typo", [11])


def test_the_five_symbols_of_a_key_cannot_be_guessed(api):
    key, token = api.site.pool_key(3), api.operator(Role.PHONE)
    body = {"installation_id": digits(api.site, key), "key": "33333", "reason": "guessing"}
    codes = [api.refused("POST", "/phone/confirmations", token, json=body)[1] for _ in range(20)]
    assert codes[0] == "phone-caller-key"
    assert codes[-1] == "phone-too-many-guesses"
    assert api.call("POST", "/phone/confirmations", token, json=body).status_code == 429


def test_many_machines_are_confirmed_at_once_and_each_is_answered_on_its_own(api, other):
    key, foreign = api.site.pool_key(2), api.site.pool_key(5)
    machines = [api.site.machine(number) for number in range(1, 4)]
    requests = [volreq(machine, key) for machine in machines]
    items = [{"id": f"m{n}", "request": body} for n, (_, body) in enumerate(requests)]
    items.insert(1, {"id": "digits", "installation_id": digits(api.site, foreign, 9), "key": foreign[-5:]})
    items += [
        {"id": "typo", "installation_id": "123", "key": "33333"},
        {"id": "empty"},
        {"id": "both", "request": requests[0][1], "key": "33333"},
        {"id": "sealed for another", "request": {**requests[0][1], "issuer": "x"}},
    ]
    token = api.organisation(Scope.PHONE_CONFIRM)
    answers = api.post("/proxy/confirmations", token, {"machines": items, "reason": "laboratory 3"})["items"]
    assert [one["id"] for one in answers] == [one["id"] for one in items]
    assert [outcome(one) for one in answers] == [
        "activated", "confirmed", "activated", "activations-exhausted", "phone-length", "request-invalid",
        "request-invalid", "issuer-unknown",
    ]  # fmt: skip
    assert isinstance(read(machines[0], requests[0][0], answers[0]["answer"]["answer"]), TrustedLicence)
    assert api.site.issued(key).used == 2
    again = api.post("/proxy/confirmations", token, {"machines": items[:2], "reason": "laboratory 3"})["items"]
    assert [one["answer"]["outcome"] if one["answer"] else one["confirmation"]["kind"] for one in again] == [
        "repeated", "repeated",
    ]  # fmt: skip
    denied = api.post("/proxy/confirmations", other, {"machines": items[:2], "reason": "x"})["items"]
    assert [outcome(one) for one in denied] == ["key-not-issued", "phone-caller-unknown"]
    api.site.publisher.store.check_ledger()


def outcome(one):
    if one["problem"]:
        return one["problem"]["code"]
    if one["confirmation"]:
        return "confirmed"
    refusal = one["answer"]["refusal"]
    return refusal["code"] if refusal else one["answer"]["outcome"]


@pytest.mark.parametrize("returned", ["true", "false"])
def test_activations_are_listed_with_those_given_back(api, returned):
    key, machine = api.site.pool_key(2), api.site.machine()
    machine.give_back(machine.ask(key).licence)
    api.site.machine(2).ask(key)
    (shown,) = api.get("/activations", api.operator(), key=key[-5:], returned=returned)["items"]
    assert (shown["returned_at"] is not None) == (returned == "true")
