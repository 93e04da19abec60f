/* What a measurement takes: the time, and the processor time of the processes under test. */
#ifndef WEIGH_H
#define WEIGH_H

void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Seconds of a clock that only goes forward. */
double now(void);

/* Names the processes, between commas; with all their threads. The text is taken apart. */
void weigh(char *pids);

/* Their processor time so far, in seconds. */
double spent(void);

#endif
