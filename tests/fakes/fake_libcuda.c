/* libcuda.so.1 for machines without a GPU, as far as the probe asks it.
 *
 * The environment says what it is like: FAKE_CUDA_<function>=<error code>, FAKE_CUDA_DRIVER=13000, FAKE_CUDA_COUNT=1,
 * FAKE_CUDA_NAME, FAKE_CUDA_CAPABILITY=75, FAKE_CUDA_CRASH=1 (the process ends in cuInit, as a broken driver does),
 * FAKE_CUDA_HANG=1 (cuInit does not return).
 */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int number(const char *name, int otherwise) {
    char key[80];
    snprintf(key, sizeof key, "FAKE_CUDA_%s", name);
    const char *text = getenv(key);
    return text ? atoi(text) : otherwise;
}
#define GUARD() do { int code = number(__func__, 0); if (code) return code; } while (0)

int cuInit(unsigned flags) {
    (void)flags;
    if (number("CRASH", 0)) raise(SIGSEGV);
    if (number("HANG", 0)) for (;;) pause();
    GUARD();
    return 0;
}
int cuDriverGetVersion(int *version) { GUARD(); *version = number("DRIVER", 13000); return 0; }
int cuDeviceGetCount(int *count) { GUARD(); *count = number("COUNT", 1); return 0; }
int cuDeviceGet(int *device, int ordinal) { GUARD(); *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int room, int device) {
    (void)device; GUARD();
    const char *told = getenv("FAKE_CUDA_NAME");
    snprintf(name, room, "%s", told ? told : "Pretended T4");
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device; GUARD();
    int capability = number("CAPABILITY", 75);
    *value = attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : 0;
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; GUARD(); *bytes = (size_t)16 << 30; return 0; }
