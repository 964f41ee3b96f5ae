// A guest's only program: reads /dev/vda past the page cache and says how fast.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/reboot.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const uint64_t span = 2500000000u; // nanoseconds for each figure

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static _Noreturn void end(const char *why) {
    printf("reader: %s\n", why);
    fflush(stdout);
    reboot(RB_AUTOBOOT);
    _exit(1);
}

// Reads blocks of a size, in order or anywhere, for the span; the bytes read.
static uint64_t read_for(uint64_t size, uint64_t disk, int in_order, uint64_t seed) {
    int file = open("/dev/vda", O_RDONLY | O_DIRECT | O_CLOEXEC);
    void *block = NULL;
    if (file < 0 || posix_memalign(&block, 4096, size)) end("no disk");
    uint64_t blocks = disk / size, at = seed % blocks, bytes = 0, began = now();
    while (now() - began < span) {
        for (int i = 0; i < 16; i++) {
            if (pread(file, block, size, at * size) != (ssize_t)size) end("read failed");
            bytes += size;
            // An order of its own for every seed, the same in every machine.
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            at = in_order ? (at + 1) % blocks : (seed >> 33) % blocks;
        }
    }
    close(file);
    free(block);
    return bytes;
}

// The same by several processes at once; bytes a second of all.
static void measure(const char *name, uint64_t size, uint64_t disk, int in_order, int processes) {
    int ends[2];
    if (pipe(ends)) end("no pipe");
    uint64_t began = now(), total = 0, part;
    for (int i = 0; i < processes; i++) {
        if (fork() == 0) {
            part = read_for(size, disk, in_order, 12345 + 7919 * i);
            if (write(ends[1], &part, sizeof part) != sizeof part) end("no pipe");
            _exit(0);
        }
    }
    for (int i = 0; i < processes; i++) {
        if (read(ends[0], &part, sizeof part) != sizeof part) end("no pipe");
        total += part;
    }
    uint64_t took = now() - began;
    while (wait(NULL) > 0) {}
    close(ends[0]);
    close(ends[1]);
    printf("figure %s %.0f\n", name, total * 1e9 / took);
}

int main(void) {
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    uint64_t disk = 0;
    int file = open("/dev/vda", O_RDONLY | O_CLOEXEC);
    if (file < 0 || ioctl(file, BLKGETSIZE64, &disk)) end("no disk");
    close(file);
    measure("sequential-128k", 128 << 10, disk, 1, 1);
    measure("random-4k", 4 << 10, disk, 0, 1);
    measure("sequential-128k-x4", 128 << 10, disk, 1, 4);
    measure("random-4k-x4", 4 << 10, disk, 0, 4);
    end("done");
}
