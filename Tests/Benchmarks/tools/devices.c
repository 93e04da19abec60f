#define _GNU_SOURCE
/* Plays MQTT devices over TLS, as many as there are lines in a file of accounts, and says how fast their messages were taken and what the
 * server's processes paid for it.
 *
 * devices publish   each publishes as fast as it may, with a window of messages that the server has not dealt with, or every so often: then
 *                   they say "ready" first, once all are connected
 * devices idle      they connect, say "ready" on standard output, and stay until standard input ends
 * devices storm     the same; for each byte on standard input all of them lose their connections and dial again at once, and a line says
 *                   after how many seconds the last was let in again
 *
 * An account is a line of client id, user name and password between tabs. One line of JSON on standard output at the end. */
#include "weigh.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_EVENTS = 256, AT_ONCE = 64, LARGEST = 1 << 20, PUBACK = 0x40, CONNACK = 0x20, PINGRESP = 0xD0 };

struct device {
    int fd;
    SSL *tls;
    enum { IDLE, SHAKING, ASKING, UP } state;
    char *id, *user, *password;
    uint8_t *publish; /* the packet, to be numbered */
    size_t length, number_at;
    uint16_t next;
    int unacknowledged;
    uint8_t *unsent; /* what TLS did not take: to be given again as it was */
    size_t unsent_length;
    uint8_t rest[8]; /* the beginning of a packet */
    size_t rest_length;
    double due;
};

static struct device *devices;
static int count, up, qos = 1, window = 20, asking;
static size_t size = 100;
static double seconds = 2, warm_up = 0.5, interval;
static struct sockaddr_in address = {.sin_family = AF_INET};
static int events_fd;
static uint64_t taken;
static bool publishing;
static SSL_CTX *settings;

/* Gives bytes to TLS; what it does not take now waits. */
static void give(struct device *one, const uint8_t *bytes, size_t length) {
    size_t written;
    if (SSL_write_ex(one->tls, bytes, length, &written) == 1) return;
    int error = SSL_get_error(one->tls, 0);
    if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ) die("%s: the connection broke", one->id);
    one->unsent = malloc(length);
    if (one->unsent == NULL) die("no memory");
    memcpy(one->unsent, bytes, length);
    one->unsent_length = length;
}

static size_t text(uint8_t *to, const char *from) {
    size_t length = strlen(from);
    to[0] = (uint8_t)(length >> 8);
    to[1] = (uint8_t)length;
    memcpy(to + 2, from, length);
    return length + 2;
}

static size_t head(uint8_t *to, uint8_t first, size_t length) {
    size_t used = 0;
    to[used++] = first;
    do {
        to[used++] = (uint8_t)((length & 0x7F) | (length > 0x7F ? 0x80 : 0));
        length >>= 7;
    } while (length > 0);
    return used;
}

static void ask(struct device *one) {
    uint8_t body[4096], packet[4200];
    size_t used = text(body, "MQTT");
    memcpy(body + used, "\4\302\0\0", 4); /* level, user name and password and a clean session, no keep-alive */
    used += 4;
    if (strlen(one->id) + strlen(one->user) + strlen(one->password) > 3000) die("an account is too long");
    used += text(body + used, one->id);
    used += text(body + used, one->user);
    used += text(body + used, one->password);
    size_t start = head(packet, 0x10, used);
    memcpy(packet + start, body, used);
    one->state = ASKING;
    give(one, packet, start + used);
}

static void prepare(struct device *one) {
    char topic[512];
    snprintf(topic, sizeof topic, "devices/%s/messages/events/", one->id);
    size_t body = 2 + strlen(topic) + (qos > 0 ? 2 : 0) + size;
    one->publish = calloc(1, body + 8);
    if (one->publish == NULL) die("no memory");
    size_t used = head(one->publish, (uint8_t)(0x30 | qos << 1), body);
    used += text(one->publish + used, topic);
    one->number_at = used;
    if (qos > 0) used += 2;
    memset(one->publish + used, 'x', size);
    one->length = used + size;
}

/* Publishes as much as the window, or the clock, allows. */
static void publish(struct device *one, double time) {
    static const uint8_t ping[2] = {0xC0, 0};
    static uint8_t batch[LARGEST];
    if (!publishing || one->unsent != NULL || time < one->due) return;
    int most = interval > 0 ? 1 : window - one->unacknowledged;
    if (most <= 0 || (qos == 0 && interval <= 0 && one->unacknowledged > 0)) return;
    size_t used = 0;
    for (int i = 0; i < most && used + one->length <= sizeof batch - sizeof ping; i++) {
        if (qos > 0) {
            if (++one->next == 0) one->next = 1;
            one->publish[one->number_at] = (uint8_t)(one->next >> 8);
            one->publish[one->number_at + 1] = (uint8_t)one->next;
        }
        one->unacknowledged++;
        memcpy(batch + used, one->publish, one->length);
        used += one->length;
    }
    if (interval > 0) one->due = time + interval;
    if (qos == 0) {
        /* Nothing acknowledges these; the answer to a ping shows that they have been worked off. */
        memcpy(batch + used, ping, sizeof ping);
        used += sizeof ping;
    }
    if (used > 0) give(one, batch, used);
}

static void understand(struct device *one, const uint8_t *bytes, size_t length) {
    while (length > 0) {
        while (one->rest_length < 2 && length > 0) one->rest[one->rest_length++] = *bytes++, length--;
        if (one->rest_length < 2) return;
        size_t whole = 2 + (size_t)one->rest[1];
        if (whole > sizeof one->rest) die("%s: a packet of %zu bytes", one->id, whole);
        while (one->rest_length < whole && length > 0) one->rest[one->rest_length++] = *bytes++, length--;
        if (one->rest_length < whole) return;
        one->rest_length = 0;
        switch (one->rest[0]) {
        case CONNACK:
            if (one->rest[3] != 0) die("%s: refused with code %d", one->id, one->rest[3]);
            one->state = UP;
            up++;
            asking--;
            prepare(one);
            break;
        case PUBACK:
            one->unacknowledged--;
            taken++;
            break;
        case PINGRESP:
            taken += (uint64_t)one->unacknowledged;
            one->unacknowledged = 0;
            break;
        default: die("%s: packet %02x", one->id, one->rest[0]);
        }
    }
}

static void serve(struct device *one, double time) {
    if (one->state == SHAKING) {
        if (SSL_do_handshake(one->tls) != 1) {
            int error = SSL_get_error(one->tls, 0);
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) die("%s: the handshake failed", one->id);
            return;
        }
        ask(one);
    }
    if (one->unsent != NULL) {
        size_t written;
        if (SSL_write_ex(one->tls, one->unsent, one->unsent_length, &written) == 1) {
            free(one->unsent);
            one->unsent = NULL;
        }
    }
    uint8_t bytes[16384];
    size_t got;
    while (SSL_read_ex(one->tls, bytes, sizeof bytes, &got) == 1) understand(one, bytes, got);
    int error = SSL_get_error(one->tls, 0);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) die("%s: the server closed the connection", one->id);
    if (one->state == UP) publish(one, time);
}

static void dial(struct device *one) {
    int on = 1;
    one->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (one->fd < 0) die("socket: %s", strerror(errno));
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(one->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) die("connect: %s", strerror(errno));
    one->tls = SSL_new(settings);
    if (one->tls == NULL || SSL_set_fd(one->tls, one->fd) != 1) die("TLS");
    SSL_set_connect_state(one->tls);
    one->state = SHAKING;
    asking++;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.ptr = one}};
    if (epoll_ctl(events_fd, EPOLL_CTL_ADD, one->fd, &event) != 0) die("epoll: %s", strerror(errno));
}

static void turn(int milliseconds) {
    struct epoll_event events[MOST_EVENTS];
    int ready = epoll_wait(events_fd, events, MOST_EVENTS, milliseconds);
    double time = now();
    for (int i = 0; i < ready; i++) serve(events[i].data.ptr, time);
}

static void read_accounts(const char *path) {
    FILE *file = fopen(path, "r");
    if (file == NULL) die("%s: %s", path, strerror(errno));
    char *line = NULL;
    size_t room = 0;
    int places = 0;
    while (getline(&line, &room, file) > 0) {
        if (count == places) {
            places = places == 0 ? 1024 : places * 2;
            devices = realloc(devices, (size_t)places * sizeof *devices);
            if (devices == NULL) die("no memory");
        }
        char *at = line, *id = strsep(&at, "\t\n"), *user = strsep(&at, "\t\n"), *password = strsep(&at, "\t\n");
        if (password == NULL) die("%s: a line without three fields", path);
        devices[count++] = (struct device){.id = strdup(id), .user = strdup(user), .password = strdup(password)};
    }
    free(line);
    fclose(file);
}

/* Every connection breaks, and every device comes back at once. */
static double storm(void) {
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    for (int i = 0; i < count; i++) {
        struct device *one = &devices[i];
        setsockopt(one->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
        close(one->fd);
        SSL_free(one->tls);
        free(one->publish);
        free(one->unsent);
        *one = (struct device){.id = one->id, .user = one->user, .password = one->password};
    }
    up = asking = 0;
    double began = now();
    for (int next = 0; up < count;) {
        for (int i = 0; i < 256 && next < count; i++) dial(&devices[next++]);
        turn(next < count ? 0 : 1000);
        if (now() - began > 300) die("%d of %d devices were let in again within five minutes", up, count);
    }
    return now() - began;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},    {"accounts", required_argument, NULL, 'a'}, {"qos", required_argument, NULL, 'q'},
        {"size", required_argument, NULL, 's'},    {"window", required_argument, NULL, 'w'},   {"interval", required_argument, NULL, 'i'},
        {"seconds", required_argument, NULL, 't'}, {"warm-up", required_argument, NULL, 'u'},  {"pids", required_argument, NULL, 'P'},
        {NULL, 0, NULL, 0}};
    const char *mode = argc > 1 ? argv[1] : "";
    optind = 2;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'p': address.sin_port = htons((uint16_t)atoi(optarg)); break;
        case 'a': read_accounts(optarg); break;
        case 'q': qos = atoi(optarg); break;
        case 's': size = (size_t)atol(optarg); break;
        case 'w': window = atoi(optarg); break;
        case 'i': interval = atof(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 'u': warm_up = atof(optarg); break;
        case 'P': weigh(optarg); break;
        default: return 64;
        }
    }
    if (count == 0 || (strcmp(mode, "publish") != 0 && strcmp(mode, "idle") != 0 && strcmp(mode, "storm") != 0)) return 64;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    settings = SSL_CTX_new(TLS_client_method());
    events_fd = epoll_create1(EPOLL_CLOEXEC);
    if (settings == NULL || events_fd < 0) die("cannot start");
    SSL_CTX_set_min_proto_version(settings, TLS1_3_VERSION);
    SSL_CTX_set_mode(settings, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);

    double began = now();
    for (int next = 0; up < count;) {
        while (next < count && asking < AT_ONCE) dial(&devices[next++]);
        turn(1000);
        if (now() - began > 120) die("%d of %d devices were let in within two minutes", up, count);
    }
    double connected = now() - began;
    if (strcmp(mode, "publish") != 0) {
        printf("ready\n");
        fflush(stdout);
        for (char byte;;) {
            struct pollfd input = {.fd = 0, .events = POLLIN};
            if (poll(&input, 1, 0) == 1) {
                if (read(0, &byte, 1) <= 0) break;
                if (strcmp(mode, "storm") == 0) {
                    printf("%.3f\n", storm());
                    fflush(stdout);
                }
            }
            turn(20);
        }
        return 0;
    }

    if (interval > 0) {
        printf("ready\n");
        fflush(stdout);
    }
    publishing = true;
    double start = now();
    for (int i = 0; i < count; i++) {
        devices[i].due = start + interval * i / count;
        publish(&devices[i], start);
    }
    uint64_t first = 0;
    double paid = 0, begin = 0;
    while (true) {
        turn(interval > 0 ? 5 : 100);
        double time = now();
        if (interval > 0) /* nothing else wakes a device */
            for (int i = 0; i < count; i++) publish(&devices[i], time);
        uint64_t done = taken;
        if (begin == 0 && time - start >= warm_up) {
            first = done;
            paid = spent();
            begin = time;
        } else if (begin > 0 && time - begin >= seconds) {
            printf("{\"messages\": %llu, \"seconds\": %.6f, \"cpu\": %.6f, \"connected\": %.3f}\n", (unsigned long long)(done - first),
                   time - begin, spent() - paid, connected);
            return 0;
        }
    }
}
