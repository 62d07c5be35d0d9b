/* SPDX-License-Identifier: Apache-2.0
 * A product in C asks the local API of the licensing service.   cc -o check check.c
 *   check SOCKET PRODUCT ROOT      exit code: 0 licensed, 1 not, 2 could not ask
 * ROOT is the publisher's root ("sha256:…"): a real product has it, as its own name, compiled in. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char message[1024], answer[8192];
    size_t length = 0;
    ssize_t got;

    if (argc != 4 || strlen(argv[1]) >= sizeof address.sun_path) {
        fputs("usage: check SOCKET PRODUCT ROOT\n", stderr);
        return 2;
    }
    strcpy(address.sun_path, argv[1]);
    int service = socket(AF_UNIX, SOCK_STREAM, 0);
    if (service < 0 || connect(service, (struct sockaddr *)&address, sizeof address) != 0) {
        perror(argv[1]); /* no service: the product goes on as its own rules say, and shows it */
        return 2;
    }
    int size = snprintf(message, sizeof message, "GET /v1/products/%s/check?root=%s HTTP/1.0\r\n\r\n", argv[2], argv[3]);
    if (size < 0 || (size_t)size >= sizeof message || write(service, message, (size_t)size) != size)
        return 2;
    while ((got = read(service, answer + length, sizeof answer - 1 - length)) > 0)
        length += (size_t)got;
    close(service);
    answer[length] = '\0';
    const char *body = strstr(answer, "\r\n\r\n");
    if (strncmp(answer, "HTTP/1.", 7) != 0 || strncmp(answer + 8, " 200", 4) != 0 || body == NULL)
        return 2;
    fputs(body + 4, stdout); /* JSON; here two members are enough, a product reads it with its own library */
    return strstr(body, "\"licensed\": true") != NULL ? 0 : 1;
}
