/* delay LISTEN-PORT TARGET-PORT MILLISECONDS: relays TCP on the loopback, every byte so much later, and never for want of a window:
 * what arrives is taken at once and waits here. A long link without its losses. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 262144, MOST_EVENTS = 64 };
static const size_t most_waiting = (size_t)512 << 20; /* in one direction: 80 Gbit/s at 50 ms */

struct piece {
    struct piece *next;
    int64_t due;
    size_t length, sent; /* length 0: the end of the direction */
    uint8_t bytes[PIECE];
};

struct direction {
    int from, to;
    struct piece *first, *last;
    size_t waiting;
    bool ended, blocked, failed;
    struct direction *opposite, *next;
};

static struct direction *directions;
static struct piece *spare;
static int64_t lag;
static int poll_fd;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static struct piece *take(void) {
    struct piece *piece = spare;
    if (piece != NULL) spare = piece->next;
    else piece = malloc(sizeof *piece);
    if (piece == NULL) die("malloc");
    return piece;
}

static void give(struct piece *piece) {
    piece->next = spare;
    spare = piece;
}

static void take_in(struct direction *way) {
    while (!way->ended && way->waiting < most_waiting) {
        struct piece *piece = take();
        ssize_t got = recv(way->from, piece->bytes, PIECE, 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            give(piece);
            return;
        }
        if (got < 0) way->failed = true;
        if (got <= 0) way->ended = true;
        piece->next = NULL;
        piece->due = now() + lag;
        piece->length = got > 0 ? (size_t)got : 0;
        piece->sent = 0;
        if (got > 0) way->waiting += (size_t)got;
        if (way->last != NULL) way->last->next = piece;
        else way->first = piece;
        way->last = piece;
    }
}

static void give_out(struct direction *way, int64_t time) {
    way->blocked = false;
    while (way->first != NULL && way->first->due <= time) {
        struct piece *piece = way->first;
        if (piece->length == 0) {
            shutdown(way->to, SHUT_WR);
        } else {
            ssize_t sent = send(way->to, piece->bytes + piece->sent, piece->length - piece->sent, MSG_NOSIGNAL);
            if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
                way->blocked = true;
                return;
            }
            if (sent < 0) way->failed = true;
            piece->sent += sent > 0 ? (size_t)sent : piece->length - piece->sent;
            if (piece->sent < piece->length) continue;
            way->waiting -= piece->length;
        }
        way->first = piece->next;
        if (way->first == NULL) way->last = NULL;
        give(piece);
    }
}

static int connect_to(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) die("connect");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void join(int left, int right) {
    int on = 1, ends[2] = {left, right};
    struct direction *pair[2];
    for (int i = 0; i < 2; i++) {
        setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        pair[i] = calloc(1, sizeof *pair[i]);
        if (pair[i] == NULL) die("calloc");
        *pair[i] = (struct direction){.from = ends[i], .to = ends[1 - i], .next = directions};
        directions = pair[i];
    }
    for (int i = 0; i < 2; i++) {
        pair[i]->opposite = pair[1 - i];
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.ptr = pair[i]}};
        if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, ends[i], &event) != 0) die("epoll_ctl");
    }
}

/* Forgets pairs of which both directions have ended; the nanoseconds until something is due, -1: nothing is. */
static int64_t sweep(int64_t time) {
    int64_t wait = -1;
    for (struct direction **place = &directions; *place != NULL;) {
        struct direction *way = *place, *back = way->opposite;
        bool done = way->failed || back->failed || (way->ended && back->ended && way->first == NULL && back->first == NULL);
        if (done && back == way->next) { /* pairs lie side by side */
            *place = back->next;
            close(way->from);
            close(back->from);
            for (int i = 0; i < 2; i++) {
                struct direction *one = i == 0 ? way : back;
                for (struct piece *piece = one->first, *next; piece != NULL; piece = next) {
                    next = piece->next;
                    give(piece);
                }
                free(one);
            }
            continue;
        }
        if (way->first != NULL && !way->blocked) {
            int64_t left = way->first->due > time ? way->first->due - time : 0;
            if (wait < 0 || left < wait) wait = left;
        }
        place = &way->next;
    }
    return wait;
}

int main(int argc, char **argv) {
    if (argc != 4) return 64;
    lag = (int64_t)(atof(argv[3]) * 1e6);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1024) != 0) die("listen");
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event first = {.events = EPOLLIN, .data = {.ptr = NULL}}, events[MOST_EVENTS];
    if (poll_fd < 0 || epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &first) != 0) die("epoll");
    int64_t wait = -1;
    for (;;) {
        struct timespec time = {wait / 1000000000, wait % 1000000000};
        int ready = epoll_pwait2(poll_fd, events, MOST_EVENTS, wait < 0 ? NULL : &time, NULL);
        for (int i = 0; i < ready; i++) {
            struct direction *way = events[i].data.ptr;
            if (way == NULL) {
                int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd < 0) continue;
                int far = connect_to(atoi(argv[2]));
                join(fd, far);
                continue;
            }
            if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) take_in(way);
        }
        int64_t at = now();
        for (struct direction *way = directions; way != NULL; way = way->next) {
            bool was_full = way->waiting >= most_waiting;
            give_out(way, at);
            if (was_full) take_in(way);
        }
        wait = sweep(now());
    }
}
