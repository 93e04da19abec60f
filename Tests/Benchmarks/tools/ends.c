#define _GNU_SOURCE
#include "ends.h"
#include "weigh.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) die("connect to %d: %s", port, strerror(errno));
    no_delay(fd);
    return fd;
}

/* --- TLS ------------------------------------------------------------------------------------------------------------ */

static void tls_died(const char *what, const char *name) {
    char text[256] = "the connection ended";
    unsigned long code = ERR_get_error();
    if (code != 0) ERR_error_string_n(code, text, sizeof text);
    die("%s (%s): %s", what, name, text);
}

static SSL_CTX *make_context(bool server, const char *cert, const char *key, const char *cipher) {
    SSL_CTX *context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (context == NULL) die("no TLS context");
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
    if (SSL_CTX_set_ciphersuites(context, cipher) != 1) die("no cipher %s", cipher);
    if (server) {
        SSL_CTX_set_num_tickets(context, 0);
        if (cert == NULL || key == NULL) die("a TLS server needs --cert and --key");
        if (SSL_CTX_use_certificate_chain_file(context, cert) != 1 || SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
            tls_died("certificate", cert);
    }
    return context;
}

static void start_tls(struct side *side, struct end *end, const char *host) {
    end->ssl = SSL_new(side->context);
    if (end->ssl == NULL || SSL_set_fd(end->ssl, end->fd) != 1) die("no TLS session");
    if (host != NULL) SSL_set_tlsext_host_name(end->ssl, host);
    if ((side->serves ? SSL_accept(end->ssl) : SSL_connect(end->ssl)) != 1) tls_died("handshake", side->name);
}

/* --- WebSocket legs ------------------------------------------------------------------------------------------------- */

static void upgrade(struct side *side, struct end *end, char *line) {
    char *rest = line;
    const char *port = strsep(&rest, " \n"), *host = strsep(&rest, " \n"), *path = strsep(&rest, " \n"), *token = strsep(&rest, " \n");
    if (token == NULL) die("a leg is PORT HOST PATH TOKEN");
    char request[8192], answer[4096];
    end->fd = dial(atoi(port));
    start_tls(side, end, host);
    int length = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\nAuthorization: Bearer %s\r\n\r\n", path, host, token);
    if (length >= (int)sizeof request || SSL_write(end->ssl, request, length) != length) tls_died("request", side->name);
    size_t had = 0;
    while (had < 4 || memcmp(answer + had - 4, "\r\n\r\n", 4) != 0) {
        if (had == sizeof answer || SSL_read(end->ssl, answer + had++, 1) != 1) tls_died("answer", side->name);
    }
    if (strncmp(answer, "HTTP/1.1 101 ", 13) != 0) die("refused: %.60s", answer);
    end->websocket = true;
}

/* --- making them ---------------------------------------------------------------------------------------------------- */

static void *make_side(void *argument) {
    struct side *side = argument;
    FILE *legs = side->legs != NULL ? fopen(side->legs, "re") : NULL;
    if (side->legs != NULL && legs == NULL) die("%s: %s", side->legs, strerror(errno));
    char *numbers = side->fds != NULL ? strdup(side->fds) : NULL, *next = numbers;
    for (int i = 0; i < side->count; i++) {
        struct end *end = &side->ends[i];
        char line[8192];
        if (legs != NULL) {
            if (fgets(line, sizeof line, legs) == NULL) die("%s: too few legs", side->legs);
            upgrade(side, end, line);
            continue;
        }
        if (numbers != NULL) {
            const char *number = strsep(&next, ",");
            if (number == NULL) die("%s: too few descriptors", side->name);
            end->fd = atoi(number);
        } else if (side->listener >= 0) {
            end->fd = accept4(side->listener, NULL, NULL, SOCK_CLOEXEC);
            if (end->fd < 0) die("accept: %s", strerror(errno));
        } else {
            end->fd = dial(side->port);
        }
        no_delay(end->fd);
        if (side->tls) start_tls(side, end, NULL);
    }
    if (legs != NULL) fclose(legs);
    free(numbers);
    return NULL;
}

void make_ends(struct side *near, struct side *far, const char *cert, const char *key, const char *cipher) {
    struct side *sides[] = {near, far};
    for (int i = 0; i < 2; i++) {
        struct side *side = sides[i];
        side->ends = calloc((size_t)side->count, sizeof *side->ends);
        if (side->ends == NULL) die("no memory");
        if (side->tls || side->legs != NULL) side->context = make_context(side->serves, cert, key, cipher);
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, make_side, far) != 0) die("no thread");
    make_side(near);
    pthread_join(thread, NULL);
    set_blocking(near, true);
    set_blocking(far, true);
}

void set_blocking(struct side *side, bool blocking) {
    for (int i = 0; i < side->count; i++) {
        int flags = fcntl(side->ends[i].fd, F_GETFL);
        if (fcntl(side->ends[i].fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK) != 0) die("fcntl: %s", strerror(errno));
    }
}

/* --- bytes ---------------------------------------------------------------------------------------------------------- */

struct unit make_unit(bool websocket, size_t payload) {
    static const uint8_t mask[4] = {0x5a, 0xc3, 0x17, 0x88};
    uint8_t head[LARGEST_HEAD] = {0x82};
    size_t headed = 0;
    if (websocket) {
        headed = 2;
        if (payload < 126) {
            head[1] = (uint8_t)(0x80 | payload);
        } else if (payload < 65536) {
            head[1] = 0x80 | 126;
            head[headed++] = (uint8_t)(payload >> 8);
            head[headed++] = (uint8_t)payload;
        } else {
            head[1] = 0x80 | 127;
            for (int shift = 56; shift >= 0; shift -= 8) head[headed++] = (uint8_t)((uint64_t)payload >> shift);
        }
        memcpy(head + headed, mask, sizeof mask);
        headed += sizeof mask;
    }
    struct unit unit = {malloc(headed + payload), headed + payload, payload};
    if (unit.bytes == NULL) die("no memory");
    memcpy(unit.bytes, head, headed);
    uint32_t state = 2463534242U;
    for (size_t i = 0; i < payload; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        unit.bytes[headed + i] = (uint8_t)state;
    }
    return unit;
}

static size_t transfer(struct end *end, bool writing, void *bytes, size_t count) {
    if (end->ssl == NULL) {
        ssize_t done = writing ? send(end->fd, bytes, count, MSG_NOSIGNAL) : recv(end->fd, bytes, count, 0);
        if (done > 0) return (size_t)done;
        if (done < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
        die("%s: %s", writing ? "send" : "recv", done == 0 ? "the stream ended" : strerror(errno));
    }
    int done = writing ? SSL_write(end->ssl, bytes, (int)count) : SSL_read(end->ssl, bytes, (int)count);
    if (done > 0) return (size_t)done;
    int reason = SSL_get_error(end->ssl, done);
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE) return 0;
    tls_died(writing ? "write" : "read", "stream");
    return 0;
}

size_t write_some(struct end *end, const struct unit *unit, size_t most) {
    size_t count = unit->length - end->position;
    if (count > most) count = most;
    if (end->ssl != NULL && count > RECORD) count = RECORD;
    size_t done = transfer(end, true, unit->bytes + end->position, count);
    end->position += done;
    if (end->position == unit->length) end->position = 0;
    return done;
}

/* Takes the bytes of a frame's head from the end of what has been read; true when the head is whole. */
static bool head_is_whole(struct end *end) {
    if (end->headed < 2) return false;
    unsigned length = end->head[1] & 0x7f, whole = length == 127 ? 10 : length == 126 ? 4 : 2;
    if (end->head[1] & 0x80) die("a masked frame from the hub");
    if (end->headed < whole) return false;
    if ((end->head[0] & 0x0f) > 2) die("the hub sent a frame of kind %d", end->head[0] & 0x0f);
    end->frame = length;
    if (whole > 2) {
        end->frame = 0;
        for (unsigned i = 2; i < whole; i++) end->frame = end->frame << 8 | end->head[i];
    }
    end->headed = 0;
    return true;
}

size_t read_some(struct end *end, uint8_t *buffer) {
    size_t got = transfer(end, false, buffer, LARGEST_READ);
    if (!end->websocket) return got;
    size_t payload = 0;
    for (size_t at = 0; at < got;) {
        if (end->frame > 0) {
            size_t part = got - at < end->frame ? got - at : (size_t)end->frame;
            end->frame -= part;
            payload += part;
            at += part;
        } else {
            end->head[end->headed++] = buffer[at++];
            head_is_whole(end);
        }
    }
    return payload;
}

void write_unit(struct end *end, const struct unit *unit) {
    do {
        write_some(end, unit, unit->length);
    } while (end->position != 0);
}

void read_payload(struct end *end, size_t count, uint8_t *buffer) {
    while (count > 0) {
        size_t got = read_some(end, buffer);
        if (got > count) die("%zu bytes too many", got - count);
        count -= got;
    }
}
