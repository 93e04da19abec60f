#define _GNU_SOURCE
/* Makes TLS 1.3 connections, one after the other in each of some places, and says how many handshakes were done and what the server's
 * processes paid for them.
 *
 * handshakes full      each makes a full handshake; with --cert and --key the client shows its certificate
 * handshakes resumed   each goes back to the session whose ticket came last
 *
 * A handshake is done when the server's ticket has come, which it sends once it has seen the client's last message. The client closes at
 * once and without a word. One line of JSON on standard output at the end. */
#include "weigh.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_EVENTS = 256 };

struct place {
    int fd;
    SSL *tls;
    SSL_SESSION *ticket; /* the latest */
    bool has_ticket, wants_reuse;
};

static struct sockaddr_in address = {.sin_family = AF_INET};
static SSL_CTX *settings;
static int events_fd;
static uint64_t done, reused;
static bool resumes;

static int keep(SSL *tls, SSL_SESSION *session) {
    struct place *one = SSL_get_app_data(tls);
    one->has_ticket = true;
    if (!resumes) return 0;
    SSL_SESSION_free(one->ticket);
    one->ticket = session;
    return 1;
}

static void dial(struct place *one) {
    int on = 1;
    struct linger none = {.l_onoff = 1, .l_linger = 0}; /* ports come back at once */
    one->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (one->fd < 0) die("socket: %s", strerror(errno));
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(one->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    if (connect(one->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) die("connect: %s", strerror(errno));
    one->tls = SSL_new(settings);
    if (one->tls == NULL || SSL_set_fd(one->tls, one->fd) != 1) die("TLS");
    SSL_set_app_data(one->tls, one);
    SSL_set_connect_state(one->tls);
    one->has_ticket = false;
    one->wants_reuse = resumes && one->ticket != NULL;
    if (one->wants_reuse) SSL_set_session(one->tls, one->ticket);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data = {.ptr = one}};
    if (epoll_ctl(events_fd, EPOLL_CTL_ADD, one->fd, &event) != 0) die("epoll: %s", strerror(errno));
}

static void serve(struct place *one) {
    char byte;
    size_t got;
    /* Reads nothing but what belongs to the handshake and the tickets after it. */
    if (SSL_read_ex(one->tls, &byte, 1, &got) == 1) die("the server spoke first");
    int error = SSL_get_error(one->tls, 0);
    if (!one->has_ticket) {
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) die("the handshake failed");
        return;
    }
    done++;
    if (SSL_session_reused(one->tls)) reused++;
    else if (one->wants_reuse) die("the server does not resume");
    close(one->fd);
    SSL_set_quiet_shutdown(one->tls, 1);
    SSL_shutdown(one->tls); /* a session that ends otherwise is not resumed */
    SSL_free(one->tls);
    dial(one);
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'}, {"places", required_argument, NULL, 'n'},  {"seconds", required_argument, NULL, 't'},
        {"cert", required_argument, NULL, 'c'}, {"key", required_argument, NULL, 'k'},     {"warm-up", required_argument, NULL, 'u'},
        {"pids", required_argument, NULL, 'P'}, {NULL, 0, NULL, 0}};
    const char *mode = argc > 1 ? argv[1] : "", *certificate = NULL, *key = NULL;
    double seconds = 1, warm_up = 0.3;
    int places = 16;
    optind = 2;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'p': address.sin_port = htons((uint16_t)atoi(optarg)); break;
        case 'n': places = atoi(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 'u': warm_up = atof(optarg); break;
        case 'c': certificate = optarg; break;
        case 'k': key = optarg; break;
        case 'P': weigh(optarg); break;
        default: return 64;
        }
    }
    resumes = strcmp(mode, "resumed") == 0;
    if (places < 1 || (!resumes && strcmp(mode, "full") != 0)) return 64;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    settings = SSL_CTX_new(TLS_client_method());
    events_fd = epoll_create1(EPOLL_CLOEXEC);
    struct place *all = calloc((size_t)places, sizeof *all);
    if (settings == NULL || events_fd < 0 || all == NULL) die("cannot start");
    SSL_CTX_set_min_proto_version(settings, TLS1_3_VERSION);
    SSL_CTX_set_session_cache_mode(settings, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(settings, keep);
    if (certificate != NULL &&
        (SSL_CTX_use_certificate_chain_file(settings, certificate) != 1 || SSL_CTX_use_PrivateKey_file(settings, key, SSL_FILETYPE_PEM) != 1))
        die("%s: cannot be used", certificate);

    for (int i = 0; i < places; i++) dial(&all[i]);
    double start = now(), begin = 0, paid = 0;
    uint64_t first = 0, first_reused = 0;
    while (true) {
        struct epoll_event events[MOST_EVENTS];
        int ready = epoll_wait(events_fd, events, MOST_EVENTS, 100);
        for (int i = 0; i < ready; i++) serve(events[i].data.ptr);
        double time = now();
        if (begin == 0 && time - start >= warm_up) {
            first = done;
            first_reused = reused;
            paid = spent();
            begin = time;
        } else if (begin > 0 && time - begin >= seconds) {
            if (done == first) die("no handshake in %.1f seconds", seconds);
            printf("{\"handshakes\": %llu, \"reused\": %llu, \"seconds\": %.6f, \"cpu\": %.6f}\n", (unsigned long long)(done - first),
                   (unsigned long long)(reused - first_reused), time - begin, spent() - paid);
            return 0;
        }
    }
}
