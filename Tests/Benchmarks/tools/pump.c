/* pump LISTEN-PORT TARGET-PORT: what a relay of raw bytes costs at least. Two sockets, a pipe of 1 MiB for each direction, epoll with
 * edges, splice; nothing is counted, limited, timed or logged. One thread to a core, each with a listener of its own. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIPE = 1 << 20, ROUNDS = 4, MOST_EVENTS = 64 };

struct leg {
    int fd;
    bool readable, writable, ended, told; /* ended: has said FIN; told: was told that the other one has */
    bool deaf;                            /* arrivals are not told, as nothing is read while the other one takes no more */
    int pipe[2];                          /* what came from this leg */
    size_t held;
    struct leg *other;
    struct leg *next;                     /* of a pair's first leg: the next pair that has its turn */
    bool queued;
};

static int ports[2];

static void die(const char *what) {
    perror(what);
    exit(1);
}

enum outcome { WAITS, GOES_ON, OVER };

static enum outcome move(struct leg *from) {
    struct leg *to = from->other;
    for (int round = 0; round < ROUNDS; round++) {
        if (from->held == 0) {
            if (from->ended && !to->told) {
                to->told = true;
                shutdown(to->fd, SHUT_WR);
            }
            if (from->ended) return from->told && to->ended ? OVER : WAITS;
            if (!from->readable) return WAITS;
            ssize_t got = splice(from->fd, NULL, from->pipe[1], NULL, PIPE, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
            if (got > 0) from->held = (size_t)got;
            else if (got == 0) from->ended = true;
            else if (errno == EAGAIN) from->readable = false;
            else return OVER;
            if (got <= 0) continue;
        }
        while (from->held > 0) {
            if (!to->writable) return WAITS;
            ssize_t sent = splice(from->pipe[0], NULL, to->fd, NULL, from->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
            if (sent > 0) from->held -= (size_t)sent;
            else if (sent < 0 && errno == EAGAIN) to->writable = false;
            else return OVER;
        }
    }
    return GOES_ON;
}

enum { DEAF = EPOLLOUT | EPOLLRDHUP, HEARING = DEAF | EPOLLIN };

static void listen_for(int poll, struct leg *leg, bool deaf) {
    if (leg->deaf == deaf) return;
    leg->deaf = deaf;
    struct epoll_event event = {.events = (deaf ? DEAF : HEARING) | EPOLLET, .data = {.ptr = leg}};
    if (epoll_ctl(poll, EPOLL_CTL_MOD, leg->fd, &event) != 0) die("epoll_ctl");
}

static void open_leg(int poll, struct leg *leg, int fd, struct leg *other) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    *leg = (struct leg){.fd = fd, .other = other};
    if (pipe2(leg->pipe, O_CLOEXEC | O_NONBLOCK) != 0 || fcntl(leg->pipe[0], F_SETPIPE_SZ, PIPE) < 0) die("pipe");
    struct epoll_event event = {.events = HEARING | EPOLLET, .data = {.ptr = leg}};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
}

static void accept_all(int poll, int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)ports[1]), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (far < 0 || connect(far, (struct sockaddr *)&address, sizeof address) != 0) die("connect");
        struct leg *pair = calloc(2, sizeof *pair);
        if (pair == NULL) die("calloc");
        open_leg(poll, &pair[0], fd, &pair[1]);
        open_leg(poll, &pair[1], far, &pair[0]);
    }
}

static void *serve(void *unused) {
    (void)unused;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), poll = epoll_create1(EPOLL_CLOEXEC);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)ports[0]), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 4096) != 0) die("listen");
    struct epoll_event first = {.events = EPOLLIN, .data = {.ptr = NULL}}, events[MOST_EVENTS];
    if (poll < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, listener, &first) != 0) die("epoll");
    struct leg *turns = NULL; /* pairs that have something to do, by their first leg */
    for (;;) {
        int ready = epoll_wait(poll, events, MOST_EVENTS, turns != NULL ? 0 : -1);
        for (int i = 0; i < ready; i++) {
            struct leg *leg = events[i].data.ptr;
            if (leg == NULL) {
                accept_all(poll, listener);
                continue;
            }
            if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) leg->readable = true;
            if ((events[i].events & EPOLLIN) && leg->held > 0 && !leg->other->writable) listen_for(poll, leg, true);
            if (events[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) leg->writable = true;
            struct leg *first = leg < leg->other ? leg : leg->other;
            if (!first->queued) {
                first->queued = true;
                first->next = turns;
                turns = first;
            }
        }
        struct leg *todo = turns;
        turns = NULL;
        while (todo != NULL) {
            struct leg *pair = todo;
            todo = pair->next;
            pair->queued = false;
            enum outcome one = move(&pair[0]), two = one == OVER ? OVER : move(&pair[1]);
            if (one == OVER || two == OVER) {
                for (int k = 0; k < 2; k++) {
                    close(pair[k].fd);
                    close(pair[k].pipe[0]);
                    close(pair[k].pipe[1]);
                }
                free(pair);
                continue;
            }
            for (int k = 0; k < 2; k++) {
                if (pair[k].held == 0) listen_for(poll, &pair[k], false);
            }
            if (one == GOES_ON || two == GOES_ON) {
                pair->queued = true;
                pair->next = turns;
                turns = pair;
            }
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) return 64;
    ports[0] = atoi(argv[1]);
    ports[1] = atoi(argv[2]);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    for (long i = 1; i < cores; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, NULL) != 0) die("thread");
    }
    serve(NULL);
    return 0;
}
