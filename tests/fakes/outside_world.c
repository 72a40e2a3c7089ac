/* The wall clock and the disk as a process sees them, changed from outside while it runs: LD_PRELOAD this.
 * DERMASCAN_OUTSIDE names a file of sizeof(struct world) bytes, which tests/fakes/outside_world.py writes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { WRITES = 1, SYNCS = 2, SHORT = 4, OPENS = 8 };

struct world {
    int64_t clock_ns; /* added to the wall clock */
    int32_t faults;   /* of the enum above; 0: the disk is sound */
    int32_t error;    /* errno of those */
    int32_t every;    /* only every so many calls on such a file go wrong */
    int32_t calls;    /* on such a file so far */
    int32_t hits;     /* that went wrong */
    int32_t unused;
    char part[224]; /* what a file's path has to hold */
};

static struct world nothing;
static struct world *world = &nothing;

__attribute__((constructor)) static void find_world(void) {
    const char *path = getenv("DERMASCAN_OUTSIDE");
    int descriptor = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (descriptor < 0) return;
    void *there = mmap(NULL, sizeof(struct world), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (there != MAP_FAILED) world = there;
    close(descriptor);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static int named(const char *path) {
    int before = errno;
    int hit = strstr(path, world->part) != NULL;
    if (hit) {
        int call = __atomic_add_fetch(&world->calls, 1, __ATOMIC_SEQ_CST);
        hit = world->every <= 1 || call % world->every == 0;
    }
    if (hit) __atomic_add_fetch(&world->hits, 1, __ATOMIC_SEQ_CST);
    errno = before;
    return hit;
}

static int struck(int descriptor, int32_t fault) {
    char link[64], path[4096];
    ssize_t length;
    int before = errno;
    if (!(world->faults & fault)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length <= 0) return 0;
    path[length] = 0;
    return named(path);
}

#define WRITE(name, declared, given, ...) \
    ssize_t name declared { \
        REAL(ssize_t, name, __VA_ARGS__); \
        if (struck(descriptor, WRITES)) { \
            if (world->faults & SHORT && count > 1) count /= 2; \
            else { errno = world->error; return -1; } \
        } \
        return real given; \
    }

WRITE(write, (int descriptor, const void *data, size_t count), (descriptor, data, count), int, const void *, size_t)
WRITE(pwrite, (int descriptor, const void *data, size_t count, off_t where), (descriptor, data, count, where), int,
      const void *, size_t, off_t)
WRITE(pwrite64, (int descriptor, const void *data, size_t count, off64_t where), (descriptor, data, count, where), int,
      const void *, size_t, off64_t)

#define SYNC(name) \
    int name(int descriptor) { \
        REAL(int, name, int); \
        if (struck(descriptor, SYNCS)) { errno = world->error; return -1; } \
        return real(descriptor); \
    }

SYNC(fsync)
SYNC(fdatasync)

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        __builtin_va_list more; \
        mode_t mode; \
        __builtin_va_start(more, flags); \
        mode = flags & (O_CREAT | O_TMPFILE) ? __builtin_va_arg(more, mode_t) : 0; \
        __builtin_va_end(more); \
        if (world->faults & OPENS && flags & O_CREAT && named(path)) { errno = world->error; return -1; } \
        return real(path, flags, mode); \
    }

OPEN(open)
OPEN(open64)

static int64_t nanoseconds(void) { return __atomic_load_n(&world->clock_ns, __ATOMIC_SEQ_CST); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) && nanoseconds()) {
        int64_t all = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + nanoseconds();
        if (all < 0) all = 0;
        now->tv_sec = all / 1000000000;
        now->tv_nsec = all % 1000000000;
    }
    return result;
}

time_t time(time_t *there) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (there) *there = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict there, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    there->tv_sec = now.tv_sec;
    there->tv_usec = now.tv_nsec / 1000;
    return 0;
}
