// The part of Linux that Swift's Glibc module does not reach. Every int function returns >= 0, or -errno.
#ifndef CLINUX_H
#define CLINUX_H
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/xattr.h>

int clx_epoll_add(int epoll, int fd, uint32_t events, uint64_t tag);
int clx_epoll_mod(int epoll, int fd, uint32_t events, uint64_t tag);
int clx_epoll_del(int epoll, int fd);
int clx_epoll_wait(int epoll, struct epoll_event *events, int capacity, int milliseconds);
int clx_eventfd(void);
void clx_eventfd_ring(int fd);
void clx_eventfd_clear(int fd);

int clx_has_aes(void);                           // whether the processor has instructions for AES-GCM

uint64_t clx_monotonic_ms(void);
int clx_thread_start(void (*body)(void *), void *argument, uint64_t *thread);
void clx_thread_join(uint64_t thread);
int clx_semaphore_wait(void *semaphore, unsigned milliseconds);  // of a sem_t; -ETIMEDOUT when no signal came

// Signals a role waits for: SIGINT, SIGTERM, SIGHUP, SIGCHLD. Block them before the first thread starts.
void clx_block_signals(void);
void clx_unblock_signals(void);                  // for a child between fork and exec
int clx_signalfd(void);
int clx_signalfd_read(int fd);                   // the signal's number, or -EAGAIN

const char *clx_argument(int index);                 // of the process; NULL past the last

int clx_socket(int family, int type);            // non-blocking, close-on-exec
int clx_accept(int fd, void *address, unsigned *length);
int clx_set_nodelay(int fd);
int clx_set_keepalive(int fd, int idle_seconds, int interval_seconds, int probes);
int clx_set_reset_on_close(int fd);              // close() then sends RST
int clx_path_is_dead(int fd, unsigned silent_ms);  // 1 when sent bytes went unanswered for that long
int clx_kernel_tls_offered(void);                // 1 when the kernel could seal TLS records
int clx_kernel_tls_start(int fd, const void *key, size_t bytes);  // a tls12_crypto_info_…: seals what is sent from now on
int clx_kernel_tls_goodbye(int fd);              // sends close_notify
long clx_send_room(int fd);                       // bytes that a TCP socket's buffer has left for what is sent, some of them its own
int clx_pipe(int fds[2]);                        // non-blocking, close-on-exec
int clx_set_pipe_size(int fd, int bytes);        // the size that it has now; EPERM beyond what the user may have
int clx_pipe_size(int fd);
long clx_splice(int from, int to, size_t count); // never waits; bytes moved, 0 at the end of input
long clx_copy(int from, int64_t offset, int to, size_t count);  // file to file, in the kernel; bytes copied, 0 at the end
int clx_inotify(void);
int clx_memfd(const char *name);
uint32_t clx_crc32c(uint32_t crc, const void *bytes, size_t count);           // goes on from `crc`, which is 0 at the start
uint32_t clx_crc32c_by_table(uint32_t crc, const void *bytes, size_t count);  // the same without the processor's instruction
void clx_raise_descriptor_limit(void);
void clx_trim_heap(void);                        // gives free memory back to the system
void clx_harden_process(void);                   // no core dumps, no ptrace by the same user

// One step of getopt_long(3). Its state is global: one thread, and `restart` on the first step of an argument list.
// `names` and `kinds` (0: no value, 1: required, 2: optional) have `count` entries; code is the index of a long option + 256,
// a short option's letter, '?' (unknown, or a value where none belongs), ':' (value missing) or -1 (no more).
struct clx_option { int code, next, culprit; const char *value; };
struct clx_option clx_next_option(int argc, char **argv, const char *shorts, char *const *names, const int *kinds, int count, int restart);
#endif
