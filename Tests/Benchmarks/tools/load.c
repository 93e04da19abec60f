#define _GNU_SOURCE
/* Moves bytes through streams that somebody else relays, and says how fast they went and what the relays' processes paid for it.
 *
 * load bulk      the near ends write, the far ends read and count, for a time
 * load pingpong  64 bytes from the near end of the first stream, and back
 * load mixed     ping-pong on the first stream while the others carry bulk
 * load open      connects again and again; how long until the far end's first byte
 *
 * One line of JSON on standard output. */
#include "ends.h"
#include "weigh.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_EVENTS = 256, PING = 64, MOST_SAMPLES = 4000000 };

static struct side near_side = {.name = "near", .listener = -1}, far_side = {.name = "far", .listener = -1};
static double seconds = 2, warm_up = 0.4, pause_between = 0;
static size_t write_size = 131072;
static int opens = 50;

static atomic_bool stopping;
static _Atomic uint64_t written, received; /* payload of the bulk streams */

static void rest(double time) {
    struct timespec left = {(time_t)time, (long)((time - (double)(time_t)time) * 1e9)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

/* --- bulk ----------------------------------------------------------------------------------------------------------- */

static int watch(struct side *side, int first, uint32_t events) {
    int poll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = first; i < side->count; i++) {
        struct epoll_event event = {.events = events, .data = {.ptr = &side->ends[i]}};
        if (poll < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, side->ends[i].fd, &event) != 0) die("epoll: %s", strerror(errno));
    }
    return poll;
}

static int bulk_first; /* the first stream that carries bulk */

static void *source(void *unused) {
    (void)unused;
    struct unit unit = make_unit(near_side.ends[0].websocket, write_size);
    int poll = watch(&near_side, bulk_first, EPOLLOUT), open = near_side.count - bulk_first;
    struct epoll_event events[MOST_EVENTS];
    while (open > 0) {
        int ready = epoll_wait(poll, events, MOST_EVENTS, -1);
        bool last = atomic_load_explicit(&stopping, memory_order_relaxed);
        for (int i = 0; i < ready; i++) {
            struct end *end = events[i].data.ptr;
            /* Whole units only, so that both sides can compare their counts. */
            if (!(last && end->position == 0)) {
                write_some(end, &unit, unit.length);
                if (end->position == 0) atomic_fetch_add_explicit(&written, unit.payload, memory_order_relaxed);
            }
            if (last && end->position == 0) {
                epoll_ctl(poll, EPOLL_CTL_DEL, end->fd, NULL);
                open--;
            }
        }
    }
    close(poll);
    free(unit.bytes);
    return NULL;
}

static atomic_bool drained;

static void *sink(void *unused) {
    (void)unused;
    uint8_t *buffer = malloc(LARGEST_READ);
    if (buffer == NULL) die("no memory");
    int poll = watch(&far_side, bulk_first, EPOLLIN);
    struct epoll_event events[MOST_EVENTS];
    while (!atomic_load_explicit(&drained, memory_order_relaxed)) {
        int ready = epoll_wait(poll, events, MOST_EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            struct end *end = events[i].data.ptr;
            uint64_t got = 0;
            do {
                got += read_some(end, buffer);
            } while (end->ssl != NULL && SSL_pending(end->ssl) > 0);
            atomic_fetch_add_explicit(&received, got, memory_order_relaxed);
        }
    }
    close(poll);
    free(buffer);
    return NULL;
}

static pthread_t source_thread, sink_thread;

static void start_bulk(int first) {
    bulk_first = first;
    for (struct side *side = &near_side;; side = &far_side) {
        struct side rest_of_it = *side;
        rest_of_it.ends += first;
        rest_of_it.count -= first;
        set_blocking(&rest_of_it, false);
        if (side == &far_side) break;
    }
    if (pthread_create(&sink_thread, NULL, sink, NULL) != 0 || pthread_create(&source_thread, NULL, source, NULL) != 0) die("no thread");
}

/* Every byte that was written must come. */
static void end_bulk(void) {
    atomic_store(&stopping, true);
    double patience = now() + 20;
    pthread_join(source_thread, NULL);
    while (atomic_load(&received) < atomic_load(&written) && now() < patience) rest(0.005);
    atomic_store(&drained, true);
    pthread_join(sink_thread, NULL);
    if (received != written) die("%llu bytes written, %llu came", (unsigned long long)written, (unsigned long long)received);
}

static void bulk(void) {
    start_bulk(0);
    rest(warm_up);
    double cpu = spent(), began = now();
    uint64_t before = atomic_load(&received);
    rest(seconds);
    uint64_t bytes = atomic_load(&received) - before;
    double took = now() - began, paid = spent() - cpu;
    if (bytes == 0) die("nothing came in %.1f s", took);
    end_bulk();
    printf("{\"bytes\": %llu, \"seconds\": %.6f, \"cpu\": %.6f}\n", (unsigned long long)bytes, took, paid);
}

/* --- ping-pong ------------------------------------------------------------------------------------------------------ */

static void *echo(void *unused) {
    (void)unused;
    struct end *end = &far_side.ends[0];
    struct unit unit = make_unit(end->websocket, PING);
    uint8_t *buffer = malloc(LARGEST_READ);
    if (buffer == NULL) die("no memory");
    for (;;) {
        read_payload(end, PING, buffer);
        write_unit(end, &unit);
    }
    return NULL;
}

static int ascending(const void *a, const void *b) {
    float left = *(const float *)a, right = *(const float *)b;
    return left < right ? -1 : left > right;
}

static void report(float *samples, size_t count, double cpu, double took) {
    qsort(samples, count, sizeof *samples, ascending);
    printf("{\"count\": %zu, \"p50\": %.2f, \"p90\": %.2f, \"p99\": %.2f, \"max\": %.2f, \"cpu\": %.6f, \"seconds\": %.6f}\n", count,
        (double)samples[count / 2], (double)samples[count * 9 / 10], (double)samples[count * 99 / 100], (double)samples[count - 1],
        cpu, took);
}

static void ping_pong(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, echo, NULL) != 0) die("no thread");
    struct end *end = &near_side.ends[0];
    struct unit unit = make_unit(end->websocket, PING);
    uint8_t *buffer = malloc(LARGEST_READ);
    float *samples = malloc(MOST_SAMPLES * sizeof *samples);
    if (buffer == NULL || samples == NULL) die("no memory");
    double cpu = 0, warm = now() + warm_up, began = 0, sent = now();
    size_t count = 0;
    while (count < MOST_SAMPLES) {
        write_unit(end, &unit);
        read_payload(end, PING, buffer);
        double back = now();
        if (began == 0) {
            if (back >= warm) {
                cpu = spent();
                began = back = now();
            }
        } else {
            samples[count++] = (float)((back - sent) * 1e6);
            if (back - began >= seconds) break;
        }
        sent = back;
    }
    report(samples, count, spent() - cpu, now() - began);
}

static void mixed(void) {
    if (near_side.count < 2) die("mixed needs two streams");
    start_bulk(1);
    ping_pong();
}

/* --- opening -------------------------------------------------------------------------------------------------------- */

static void *greet(void *unused) {
    (void)unused;
    char byte = '!';
    for (;;) {
        int fd = accept4(far_side.listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) die("accept: %s", strerror(errno));
        if (send(fd, &byte, 1, MSG_NOSIGNAL) == 1) {
            while (recv(fd, &byte, 1, 0) > 0) continue;
        }
        close(fd);
    }
    return NULL;
}

static void open_streams(void) {
    pthread_t thread;
    if (far_side.listener < 0 || near_side.port == 0) die("open needs --connect and --accept");
    if (pthread_create(&thread, NULL, greet, NULL) != 0) die("no thread");
    float *samples = calloc((size_t)opens, sizeof *samples);
    if (samples == NULL) die("no memory");
    double cpu = spent(), began = now();
    for (int i = 0; i < opens; i++) {
        char byte;
        double start = now();
        int fd = dial(near_side.port);
        if (recv(fd, &byte, 1, 0) != 1) die("no first byte");
        samples[i] = (float)((now() - start) * 1e6);
        close(fd);
        rest(pause_between);
    }
    report(samples, (size_t)opens, spent() - cpu, now() - began);
}

/* --- the command line ----------------------------------------------------------------------------------------------- */

static void usage(void) {
    fputs("usage: load bulk|pingpong|mixed|open [--streams N] [--seconds S] [--warm-up S] [--write BYTES] [--pids P,P]\n"
          "            (--connect PORT | --near-fds N,N | --near-legs FILE) (--accept FD | --far-fds N,N | --far-legs FILE)\n"
          "            [--tls --cert FILE --key FILE [--cipher NAME]] [--opens N] [--pause S]\n", stderr);
    exit(64);
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"streams", 1, NULL, 'n'}, {"seconds", 1, NULL, 's'}, {"warm-up", 1, NULL, 'w'}, {"write", 1, NULL, 'b'}, {"pids", 1, NULL, 'p'},
        {"connect", 1, NULL, 'c'}, {"accept", 1, NULL, 'a'}, {"near-fds", 1, NULL, 'f'}, {"far-fds", 1, NULL, 'F'},
        {"near-legs", 1, NULL, 'l'}, {"far-legs", 1, NULL, 'L'}, {"tls", 0, NULL, 't'}, {"cert", 1, NULL, 'C'}, {"key", 1, NULL, 'K'},
        {"cipher", 1, NULL, 'e'}, {"opens", 1, NULL, 'o'}, {"pause", 1, NULL, 'P'}, {0}};
    const char *cert = NULL, *key = NULL, *cipher = "TLS_AES_128_GCM_SHA256";
    int streams = 1, option;
    bool tls = false;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
            case 'n': streams = atoi(optarg); break;
            case 's': seconds = atof(optarg); break;
            case 'w': warm_up = atof(optarg); break;
            case 'b': write_size = (size_t)atol(optarg); break;
            case 'p':
                weigh(optarg);
                break;
            case 'c': near_side.port = atoi(optarg); break;
            case 'a': far_side.listener = atoi(optarg); break;
            case 'f': near_side.fds = optarg; break;
            case 'F': far_side.fds = optarg; break;
            case 'l': near_side.legs = optarg; break;
            case 'L': far_side.legs = optarg; break;
            case 't': tls = true; break;
            case 'C': cert = optarg; break;
            case 'K': key = optarg; break;
            case 'e': cipher = optarg; break;
            case 'o': opens = atoi(optarg); break;
            case 'P': pause_between = atof(optarg); break;
            default: usage();
        }
    }
    if (optind + 1 != argc || streams < 1 || write_size < 1 || opens < 1) usage();
    signal(SIGPIPE, SIG_IGN);
    const char *what = argv[optind];
    if (strcmp(what, "open") == 0) {
        open_streams();
        return 0;
    }
    near_side.count = far_side.count = streams;
    near_side.tls = far_side.tls = tls;
    far_side.serves = far_side.legs == NULL;
    make_ends(&near_side, &far_side, cert, key, cipher);
    if (strcmp(what, "bulk") == 0) bulk();
    else if (strcmp(what, "pingpong") == 0) ping_pong();
    else if (strcmp(what, "mixed") == 0) mixed();
    else usage();
    return 0;
}
