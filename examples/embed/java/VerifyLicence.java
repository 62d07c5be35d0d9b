// SPDX-License-Identifier: Apache-2.0
// Verifies a KMS host's licence with Java's own cryptography (17 or newer), without Volact.
//   java VerifyLicence.java LICENCE ROOT.pem PRODUCT MACHINE-ID GROUP AT      exit code: 0 good, 1 not
// The steps are those of docs/spec/verification.md, §1 and §4; AT is the time now, in Unix seconds.

import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.Signature;
import java.security.cert.CertPathValidator;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXParameters;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Date;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public final class VerifyLicence {
    private static final String KMS_HOST = "2.25.65012826709404806575685309085944254281";
    private static final String GRANT = "2.25.239498954501018633009309461544856444572";

    public static void main(String[] args) throws Exception {
        String token = Files.readString(Path.of(args[0])).strip();
        try {
            String claims = verify(token, certificate(Files.readAllBytes(Path.of(args[1]))));
            demand(text(claims, "aud").equals(args[2]), "another product");
            demand(text(claims, "sub").equals(args[3]), "another machine");
            demand(number(claims, "group") == Long.parseLong(args[4]), "another product group");
            demand(text(claims, "channel").equals("volume"), "another channel");
            demand(!claims.contains("\"exp\":") || Long.parseLong(args[5]) < number(claims, "exp"), "the lease is over");
            System.out.println(claims);
        } catch (GeneralSecurityException | IllegalArgumentException exc) {
            System.err.println(exc.getMessage());
            System.exit(1);
        }
    }

    private static String verify(String token, X509Certificate root) throws GeneralSecurityException {
        // (1) the header is what a licence's header is
        String[] parts = token.split("\\.", -1);
        demand(parts.length == 3, "not a compact JWS");
        String header = new String(Base64.getUrlDecoder().decode(parts[0]), StandardCharsets.UTF_8);
        demand(text(header, "alg").equals("ES256") && text(header, "typ").equals("volact-licence+jwt"), "not a licence");
        List<X509Certificate> chain = chain(header);
        demand(chain.size() == 2, "not a leaf and its issuing CA");
        X509Certificate leaf = chain.get(0);
        // (2) the signature fits the leaf
        Signature signature = Signature.getInstance("SHA256withECDSAinP1363Format");
        signature.initVerify(leaf.getPublicKey());
        signature.update((parts[0] + "." + parts[1]).getBytes(StandardCharsets.US_ASCII));
        demand(signature.verify(Base64.getUrlDecoder().decode(parts[2])), "the signature does not fit");
        String claims = new String(Base64.getUrlDecoder().decode(parts[1]), StandardCharsets.UTF_8);
        // (3) the chain leads to the root that is pinned, and was valid when the licence was made
        PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(root, null)));
        parameters.setRevocationEnabled(false); // revocation is the publisher's signed status, not a CRL
        parameters.setDate(new Date(number(claims, "iat") * 1000));
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        CertPathValidator.getInstance("PKIX").validate(factory.generateCertPath(chain), parameters);
        // (4) the leaf has the one role that may license this channel, and its grant names the product group
        demand(List.of(KMS_HOST).equals(leaf.getExtendedKeyUsage()), "not a KMS host's certificate");
        demand(grantedGroups(leaf).contains(number(claims, "group")), "the host has no grant for the product group");
        return claims;
    }

    private static List<X509Certificate> chain(String header) throws GeneralSecurityException {
        Matcher list = Pattern.compile("\"x5c\":\\[([^\\]]*)\\]").matcher(header);
        demand(list.find(), "it does not bring its certificates");
        List<X509Certificate> chain = new ArrayList<>();
        for (String der : list.group(1).split(",")) {
            chain.add(certificate(Base64.getDecoder().decode(der.replace("\"", ""))));
        }
        return chain;
    }

    private static X509Certificate certificate(byte[] data) throws GeneralSecurityException {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        return (X509Certificate) factory.generateCertificate(new ByteArrayInputStream(data));
    }

    /** The groups in the grant: OCTET STRING { SEQUENCE { version, organisation, SEQUENCE OF group, signer } }. */
    private static List<Long> grantedGroups(X509Certificate leaf) {
        byte[] extension = leaf.getExtensionValue(GRANT);
        demand(extension != null, "no grant");
        List<byte[]> fields = values(values(values(extension).get(0)).get(0));
        List<Long> groups = new ArrayList<>();
        for (byte[] group : values(fields.get(2))) {
            groups.add(new java.math.BigInteger(group).longValueExact());
        }
        return groups;
    }

    /** The contents of the DER values that stand one after another. */
    private static List<byte[]> values(byte[] data) {
        List<byte[]> found = new ArrayList<>();
        for (int at = 0; at < data.length; ) {
            int octets = (data[at + 1] & 0x80) == 0 ? 0 : data[at + 1] & 0x7f;
            int length = octets == 0 ? data[at + 1] : 0;
            for (int n = 0; n < octets; n++) {
                length = length << 8 | data[at + 2 + n] & 0xff;
            }
            int start = at + 2 + octets;
            found.add(java.util.Arrays.copyOfRange(data, start, start + length));
            at = start + length;
        }
        return found;
    }

    /* Licences are canonical JSON without white space and without a member twice; with a JSON library, use that. */

    private static String text(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\":\"([^\"\\\\]*)\"").matcher(json);
        demand(found.find(), name + " is missing");
        return found.group(1);
    }

    private static long number(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\":(\\d+)").matcher(json);
        demand(found.find(), name + " is missing");
        return Long.parseLong(found.group(1));
    }

    private static void demand(boolean holds, String what) {
        if (!holds) {
            throw new IllegalArgumentException(what);
        }
    }
}
