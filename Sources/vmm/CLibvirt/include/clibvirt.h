// libvirt with its embedded QEMU driver, for a process that runs one domain.
//
// Every function answers 0 for success and -1 for failure unless it says otherwise; clibvirt_error
// then tells why. No pointer of libvirt's leaves here.
#ifndef CLIBVIRT_H
#define CLIBVIRT_H

#include <stddef.h>

// Prepares the library: its home at `root`, and its default event loop.
int clibvirt_initialize(const char *root);
// libvirt's version, as major * 1000000 + minor * 1000 + release; 0 if it cannot tell.
unsigned long clibvirt_version(void);
// Serves events until the process ends.
void clibvirt_serve_events(void);
// Opens the driver by its URI; each lifecycle event is then written to `events`, a descriptor, as
// two bytes: the event and its detail.
int clibvirt_open(const char *uri, int events);
// Has the driver learn what a program for QEMU can do with that machine.
int clibvirt_probe(const char *emulator, const char *machine);
// Makes the domain known, not running yet.
int clibvirt_define(const char *xml);
// Gives the domain an open file under the name that its XML has for it.
int clibvirt_associate(const char *name, int descriptor);
int clibvirt_start(void);
int clibvirt_suspend(void);
int clibvirt_resume(void);
int clibvirt_set_memory(unsigned long kibibytes);
// The guest's memory without what the balloon holds.
int clibvirt_memory(unsigned long long *kibibytes);

// What a disk was asked for: counts and bytes.
struct clibvirt_block_counters {
    long long reads;
    long long read_bytes;
    long long writes;
    long long written_bytes;
};
int clibvirt_block_counters(const char *disk, struct clibvirt_block_counters *counters);

// Copies the calling thread's last error, NUL-terminated and cut to `size`.
void clibvirt_error(char *text, size_t size);

#endif
