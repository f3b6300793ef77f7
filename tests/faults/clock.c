/* Moves the wall clock of a process: LD_PRELOAD puts it in, and a file says by how many seconds, at any moment.

   The file, which the environment variable names, holds a signed 64-bit integer in the machine's byte order. It is
   mapped, so that who writes it moves the clock of all processes that have it, those that run included.

   Only the wall clock moves. The monotonic clocks do not, and neither does a wait: what is to end at a point of the wall
   clock is given to the C library in true time. So a sleep of three seconds takes three seconds, whatever the clock does
   meanwhile. Times of files are the kernel's, and stay true. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The monotonic clock counts from the start of the machine, and comes to this after thirty years. */
#define NO_MONOTONIC_TIME 1000000000

static const volatile int64_t *offset;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("AIRFLOW_JOBS_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) offset = found;
    close(file);
}

static int64_t moved(void) { return offset ? *offset : 0; }

/* Other libraries may ask for the time before this one has begun, so each function is looked up where it is used. Twice
   does no harm. */
#define REAL(type, name, ...)                                  \
    static type (*real)(__VA_ARGS__);                          \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += moved();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec found;
    int failed = clock_gettime(CLOCK_REALTIME, &found);
    if (!failed) *now = (struct timeval){.tv_sec = found.tv_sec, .tv_usec = found.tv_nsec / 1000};
    return failed;
}

time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}

static struct timespec true_time(const struct timespec *end) {
    return (struct timespec){.tv_sec = end->tv_sec - moved(), .tv_nsec = end->tv_nsec};
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *end, struct timespec *left) {
    REAL(int, clock_nanosleep, clockid_t, int, const struct timespec *, struct timespec *);
    if (clock != CLOCK_REALTIME || !(flags & TIMER_ABSTIME)) return real(clock, flags, end, left);
    struct timespec then = true_time(end);
    return real(clock, flags, &then, left);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict end) {
    REAL(int, sem_timedwait, sem_t *, const struct timespec *);
    struct timespec then = true_time(end);
    return real(semaphore, &then);
}

int pthread_cond_timedwait(
    pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, const struct timespec *restrict end) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!real) {
        /* Without the version, what is found on x86-64 is the one of glibc 2.2, whose conditions were others. */
        void *found = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
        if (!found) found = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
        real = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))found;
    }
    /* A condition does not say which clock it goes by, but the time does. */
    if (end->tv_sec < NO_MONOTONIC_TIME) return real(condition, mutex, end);
    struct timespec then = true_time(end);
    return real(condition, mutex, &then);
}
