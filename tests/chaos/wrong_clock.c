/* Preloaded into a replica: a wall clock that is off by WRONG_CLOCK_BY_S and runs WRONG_CLOCK_RATE times as fast from
   the start of the process. Every other clock is right. */

#define _GNU_SOURCE
#include <stddef.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static double by_s, rate = 1.0, began_s;

static double right_s(void)
{
    struct timespec at;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

__attribute__((constructor)) static void begin(void)
{
    const char *by = getenv("WRONG_CLOCK_BY_S"), *pace = getenv("WRONG_CLOCK_RATE");
    by_s = by ? atof(by) : 0.0;
    rate = pace ? atof(pace) : 1.0;
    began_s = right_s();
}

static double wrong_s(void)
{
    return began_s + by_s + (right_s() - began_s) * rate;
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
        return (int)syscall(SYS_clock_gettime, clock, at);
    double now_s = wrong_s();
    at->tv_sec = (time_t)now_s;
    at->tv_nsec = (long)((now_s - (double)at->tv_sec) * 1e9);
    return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    double now_s = wrong_s();
    (void)zone;
    at->tv_sec = (time_t)now_s;
    at->tv_usec = (suseconds_t)((now_s - (double)at->tv_sec) * 1e6);
    return 0;
}

time_t time(time_t *at)
{
    time_t now_s = (time_t)wrong_s();
    if (at != NULL)
        *at = now_s;
    return now_s;
}
