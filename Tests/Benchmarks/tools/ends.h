/* The ends of a stream under load: a socket, bare, with TLS on it, or with TLS and a WebSocket. */
#ifndef ENDS_H
#define ENDS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { LARGEST_HEAD = 14, RECORD = 16384, LARGEST_READ = 262144 };

struct end {
    int fd;
    SSL *ssl;        /* null on a bare socket */
    bool websocket;  /* payload travels in frames */
    uint64_t frame;  /* what is left of the frame that is being read */
    uint8_t head[LARGEST_HEAD];
    unsigned headed; /* bytes of `head` that have been read */
    size_t position; /* in the unit that is being written */
};

/* What an end writes over and over: plain bytes, or one masked frame. */
struct unit {
    uint8_t *bytes;
    size_t length;  /* on the wire */
    size_t payload; /* of it */
};

/* How one side of all streams comes to be; exactly one of the four sources is set. */
struct side {
    const char *name;
    int port;           /* connects to it on the loopback */
    int listener;       /* accepts from it, -1: not */
    const char *fds;    /* inherited and connected: numbers with commas */
    const char *legs;   /* a file of lines PORT HOST PATH TOKEN: WebSocket legs of a hub */
    bool tls;           /* TLS on top; a side that accepts, or `serves`, is the server */
    bool serves;
    SSL_CTX *context;
    int count;
    struct end *ends;
};

/* Makes all ends of both sides, in order and at the same time, blocking. */
void make_ends(struct side *near, struct side *far, const char *cert, const char *key, const char *cipher);

/* A connection to the loopback with TCP_NODELAY. */
int dial(int port);

void set_blocking(struct side *side, bool blocking);

struct unit make_unit(bool websocket, size_t payload);

/* Up to `most` bytes of the unit from where the end stands; 0: would block. */
size_t write_some(struct end *end, const struct unit *unit, size_t most);

/* Payload bytes that came; 0: would block, or only a part of a frame's head. `buffer` has LARGEST_READ bytes. */
size_t read_some(struct end *end, uint8_t *buffer);

/* For blocking ends. */
void write_unit(struct end *end, const struct unit *unit);
void read_payload(struct end *end, size_t count, uint8_t *buffer);

#endif
