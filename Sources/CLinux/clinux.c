#define _GNU_SOURCE
#include <getopt.h>
#include "clinux.h"
#include <errno.h>
#include <malloc.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// glibc hands every constructor what main gets.
static int argument_count;
static char **argument_values;
__attribute__((constructor)) static void keep_arguments(int count, char **values) {
    argument_count = count;
    argument_values = values;
}
const char *clx_argument(int index) { return index >= 0 && index < argument_count ? argument_values[index] : NULL; }

static int verdict(int result) { return result < 0 ? -errno : result; }

static int control(int epoll, int operation, int fd, uint32_t events, uint64_t tag) {
    struct epoll_event event = {.events = events, .data = {.u64 = tag}};
    return verdict(epoll_ctl(epoll, operation, fd, &event));
}
int clx_epoll_add(int epoll, int fd, uint32_t events, uint64_t tag) { return control(epoll, EPOLL_CTL_ADD, fd, events, tag); }
int clx_epoll_mod(int epoll, int fd, uint32_t events, uint64_t tag) { return control(epoll, EPOLL_CTL_MOD, fd, events, tag); }
int clx_epoll_del(int epoll, int fd) { return control(epoll, EPOLL_CTL_DEL, fd, 0, 0); }
int clx_epoll_wait(int epoll, struct epoll_event *events, int capacity, int milliseconds) {
    return verdict(epoll_wait(epoll, events, capacity, milliseconds));
}
int clx_eventfd(void) { return verdict(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)); }
void clx_eventfd_ring(int fd) {
    uint64_t one = 1;
    ssize_t ignored = write(fd, &one, sizeof one);
    (void)ignored;
}
void clx_eventfd_clear(int fd) {
    uint64_t count;
    ssize_t ignored = read(fd, &count, sizeof count);
    (void)ignored;
}

int clx_has_aes(void) {
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    return (getauxval(AT_HWCAP) & 0x18) == 0x18;  // HWCAP_AES, HWCAP_PMULL
#elif defined(__arm__)
    return (getauxval(AT_HWCAP2) & 0x3) == 0x3;  // HWCAP2_AES, HWCAP2_PMULL
#else
    return 0;
#endif
}

uint64_t clx_monotonic_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct start { void (*body)(void *); void *argument; };
static void *enter(void *pointer) {
    struct start start = *(struct start *)pointer;
    free(pointer);
    start.body(start.argument);
    return NULL;
}
int clx_thread_start(void (*body)(void *), void *argument, uint64_t *thread) {
    struct start *start = malloc(sizeof *start);
    if (!start) return -ENOMEM;
    *start = (struct start){body, argument};
    pthread_t id;
    int error = pthread_create(&id, NULL, enter, start);
    if (error) { free(start); return -error; }
    *thread = (uint64_t)id;
    return 0;
}
void clx_thread_join(uint64_t thread) { pthread_join((pthread_t)thread, NULL); }
int clx_semaphore_wait(void *semaphore, unsigned milliseconds) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += milliseconds / 1000;
    until.tv_nsec += milliseconds % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000) { until.tv_sec++; until.tv_nsec -= 1000000000; }
    int result;
    do result = sem_clockwait(semaphore, CLOCK_MONOTONIC, &until);
    while (result && errno == EINTR);
    return verdict(result);
}

static sigset_t awaited(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    return set;
}
void clx_block_signals(void) {
    sigset_t set = awaited();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}
void clx_unblock_signals(void) {
    sigset_t set = awaited();
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    signal(SIGPIPE, SIG_DFL);
}
int clx_signalfd(void) {
    sigset_t set = awaited();
    return verdict(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
}
int clx_signalfd_read(int fd) {
    struct signalfd_siginfo info;
    ssize_t count = read(fd, &info, sizeof info);
    if (count < 0) return -errno;
    return count == sizeof info ? (int)info.ssi_signo : -EIO;
}

int clx_socket(int family, int type) { return verdict(socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }
int clx_accept(int fd, void *address, unsigned *length) {
    return verdict(accept4(fd, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC));
}
static int set_option(int fd, int level, int name, int value) { return verdict(setsockopt(fd, level, name, &value, sizeof value)); }
int clx_set_nodelay(int fd) { return set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1); }
int clx_set_keepalive(int fd, int idle_seconds, int interval_seconds, int probes) {
    int result = set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (result >= 0) result = set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_seconds);
    if (result >= 0) result = set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval_seconds);
    if (result >= 0) result = set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, probes);
    return result;
}
int clx_set_reset_on_close(int fd) {
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    return verdict(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
}
int clx_path_is_dead(int fd, unsigned silent_ms) {
    struct tcp_info info;
    socklen_t length = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length)) return -errno;
    // A reader that stopped reading still answers probes of its closed window; a dead path answers nothing.
    return (info.tcpi_unacked > 0 && info.tcpi_last_ack_recv > silent_ms) || info.tcpi_probes > 4;
}
int clx_kernel_tls_offered(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return 0;
    int offered = setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3) == 0 || errno == ENOTCONN;  // ENOENT without the module
    close(fd);
    return offered;
}
int clx_kernel_tls_start(int fd, const void *key, size_t bytes) {
    if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3) && errno != EEXIST) return -errno;
    return verdict(setsockopt(fd, SOL_TLS, TLS_TX, key, (socklen_t)bytes));
}
int clx_kernel_tls_goodbye(int fd) {
    unsigned char alert[2] = {1, 0};  // warning, close_notify
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(1)] = {0};
    struct iovec part = {alert, sizeof alert};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_TLS;
    header->cmsg_type = TLS_SET_RECORD_TYPE;
    header->cmsg_len = CMSG_LEN(1);
    *CMSG_DATA(header) = 21;  // alert
    return verdict((int)sendmsg(fd, &message, MSG_NOSIGNAL));
}
long clx_send_room(int fd) {
    uint32_t memory[SK_MEMINFO_VARS] = {0};
    socklen_t length = sizeof memory;
    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &length)) return -errno;
    return (long)memory[SK_MEMINFO_SNDBUF] - (long)memory[SK_MEMINFO_WMEM_QUEUED];
}
long clx_splice(int from, int to, size_t count) {
    ssize_t moved = splice(from, NULL, to, NULL, count, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    return moved >= 0 ? moved : -errno;
}
long clx_copy(int from, int64_t offset, int to, size_t count) {
    off_t start = (off_t)offset;
    ssize_t copied = copy_file_range(from, &start, to, NULL, count, 0);
    if (copied < 0 && (errno == ENOSYS || errno == EXDEV || errno == EOPNOTSUPP || errno == EINVAL)) {
        start = (off_t)offset;
        copied = sendfile(to, from, &start, count);
    }
    return copied >= 0 ? copied : -errno;
}
int clx_set_pipe_size(int fd, int bytes) { return verdict(fcntl(fd, F_SETPIPE_SZ, bytes)); }
int clx_pipe_size(int fd) { return verdict(fcntl(fd, F_GETPIPE_SZ)); }
int clx_pipe(int fds[2]) { return verdict(pipe2(fds, O_NONBLOCK | O_CLOEXEC)); }
int clx_inotify(void) { return verdict(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)); }
int clx_memfd(const char *name) { return verdict(memfd_create(name, MFD_CLOEXEC)); }
void clx_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}
void clx_trim_heap(void) { malloc_trim(0); }
void clx_harden_process(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0);
}

struct clx_option clx_next_option(int argc, char **argv, const char *shorts, char *const *names, const int *kinds, int count, int restart) {
    struct option longs[count + 1];
    for (int i = 0; i < count; i++) longs[i] = (struct option){names[i], kinds[i], NULL, 256 + i};
    longs[count] = (struct option){0};
    if (restart) optind = 0;
    opterr = 0;
    optarg = NULL;
    int code = getopt_long(argc, argv, shorts, longs, NULL);
    return (struct clx_option){code, optind, optopt, optarg};
}

// What Swift's library would ask for the name of a character; nothing here asks. The linker puts this in the place of the
// library's own (Package.swift wraps the symbol) and leaves out 550 kB of names. Zero says that the character has none.
intptr_t __wrap__swift_stdlib_getScalarName(uint32_t scalar, uint8_t *name, intptr_t capacity) {
    (void)scalar, (void)name, (void)capacity;
    return 0;
}
