// SPDX-License-Identifier: Apache-2.0
// Verifies a licence with the npm package `jose` and Node's own X.509, neither of which knows Volact.
//   node verify_licence.mjs LICENCE ROOT.pem EXPECTED.json
// EXPECTED: {"at": seconds, "product": …, "machine": …, "group": …, "nonce": … or null, "extendedKeyUsage": OID}
import { readFileSync } from "node:fs";
import { X509Certificate } from "node:crypto";
import { compactVerify, decodeProtectedHeader, importX509 } from "jose";

const [token, root, expected] = [
  readFileSync(process.argv[2], "utf8").trim(),
  new X509Certificate(readFileSync(process.argv[3])),
  JSON.parse(readFileSync(process.argv[4], "utf8")),
];

// OBJECT IDENTIFIER 2.25.239498954501018633009309461544856444572: the extension with an issuer's grant.
const GRANT = Buffer.from("6982e8ade9889892d2b0c793f8c78ece97cfbd1c", "hex");

function demand(holds, what) {
  if (!holds) throw new Error(what);
}

// (1) the header is what a licence's header is
const header = decodeProtectedHeader(token);
demand(header.alg === "ES256" && header.typ === "volact-licence+jwt", "not a licence");
demand(Object.keys(header).sort().join() === "alg,typ,x5c", "another header member");
const chain = header.x5c.map((der) => new X509Certificate(Buffer.from(der, "base64")));

// (2) the signature fits the leaf
const pem = `-----BEGIN CERTIFICATE-----\n${header.x5c[0]}\n-----END CERTIFICATE-----`;
const { payload } = await compactVerify(token, await importX509(pem, "ES256"), { algorithms: ["ES256"] });
const claims = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));

// (3) the chain leads to the root that is pinned, each link valid when the licence was made
const links = [...chain, root];
const made = claims.iat * 1000;
demand(chain.length === 2 && !chain[0].ca && chain[1].ca, "not a leaf and its issuing CA");
for (let n = 0; n < links.length; n += 1) {
  const above = links[Math.min(n + 1, links.length - 1)];
  demand(links[n].checkIssued(above) && links[n].verify(above.publicKey), "the chain does not lead to the root");
  const { validFrom, validTo } = links[n];
  demand(Date.parse(validFrom) <= made && made <= Date.parse(validTo), "a certificate was not valid");
}

// (4) the leaf has the one role that may license this channel, and its grant names the product group
const isHost = chain[0].keyUsage?.join() === expected.extendedKeyUsage;
demand(isHost && claims.volact.channel === "volume", "not a KMS host's certificate and channel");
demand(grantedGroups(chain[0].raw).includes(claims.volact.group), "the host has no grant for the product group");

// (5) the claims are for us
demand(claims.aud === expected.product, "another product");
demand(claims.sub === expected.machine, "another machine");
demand(claims.volact.v === 1 && claims.volact.group === expected.group, "another product group");
demand(expected.nonce === null || claims.volact.nonce === expected.nonce, "an answer to another request");
demand(claims.exp === undefined || expected.at < claims.exp, "the lease is over");
console.log(JSON.stringify(claims));

// The product groups in a certificate's grant: SEQUENCE { version, organisation, SEQUENCE OF group, signer }.
function grantedGroups(certificate) {
  const [toBeSigned] = children(children(certificate)[0].value);
  const extensions = children(toBeSigned.value).find(({ tag }) => tag === 0xa3);
  for (const extension of children(children(extensions.value)[0].value)) {
    const parts = children(extension.value);
    if (!parts[0].value.equals(GRANT)) continue;
    const [version, , groups] = children(children(parts.at(-1).value)[0].value);
    demand(version.value.equals(Buffer.from([1])), "a later version of the grant");
    return children(groups.value).map(({ value }) => value.readUIntBE(0, value.length));
  }
  throw new Error("no grant");
}

// The DER values that stand one after another in these bytes.
function children(bytes) {
  const found = [];
  for (let at = 0; at < bytes.length; ) {
    const short = bytes[at + 1] < 0x80;
    const octets = short ? 0 : bytes[at + 1] & 0x7f;
    const length = short ? bytes[at + 1] : bytes.readUIntBE(at + 2, octets);
    const start = at + 2 + octets;
    found.push({ tag: bytes[at], value: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return found;
}
