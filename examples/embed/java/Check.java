// SPDX-License-Identifier: Apache-2.0
// A product in Java (17 or newer, nothing else) asks the local API of the licensing service.
//   java Check.java SOCKET PRODUCT ROOT      exit code: 0 licensed, 1 not, 2 could not ask

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.net.URLEncoder;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.regex.Pattern;

public final class Check {
    public static void main(String[] args) {
        if (args.length != 3) {
            System.err.println("usage: java Check.java SOCKET PRODUCT ROOT");
            System.exit(2);
        }
        try {
            String json = ask(args[0], args[1], args[2]);
            System.out.println(args[1] + ": " + member(json, "state") + ", " + member(json, "enforcement"));
            System.exit(json.contains("\"licensed\": true") ? 0 : 1);
        } catch (IOException exc) {
            System.err.println(exc.getMessage()); // no service: the product goes on as its own rules say
            System.exit(2);
        }
    }

    private static String ask(String socket, String product, String root) throws IOException {
        String query = URLEncoder.encode(root, StandardCharsets.UTF_8);
        String message = "GET /v1/products/" + product + "/check?root=" + query + " HTTP/1.0\r\n\r\n";
        ByteArrayOutputStream answer = new ByteArrayOutputStream();
        try (SocketChannel service = SocketChannel.open(UnixDomainSocketAddress.of(socket))) {
            service.write(ByteBuffer.wrap(message.getBytes(StandardCharsets.US_ASCII)));
            ByteBuffer piece = ByteBuffer.allocate(8192);
            while (service.read(piece) >= 0) {
                answer.write(piece.array(), 0, piece.position());
                piece.clear();
            }
        }
        String text = answer.toString(StandardCharsets.UTF_8);
        int body = text.indexOf("\r\n\r\n");
        if (!text.matches("(?s)HTTP/1\\.\\d 200 .*") || body < 0) {
            throw new IOException(text.lines().findFirst().orElse("no answer"));
        }
        return text.substring(body + 4);
    }

    /** A text member; a product that has a JSON library uses that. */
    private static String member(String json, String name) {
        var found = Pattern.compile("\"" + name + "\": \"([^\"]*)\"").matcher(json);
        return found.find() ? found.group(1) : "";
    }
}
