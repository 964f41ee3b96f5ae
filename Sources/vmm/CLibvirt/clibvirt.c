#include "clibvirt.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// One process runs one domain.
static virConnectPtr connection;
static virDomainPtr domain;

static void ignore(void *data, virErrorPtr error) {
    (void)data;
    (void)error;
}

// Before the library's first call, which reads it: what it would say on standard error is of no
// use beside the error that it returns.
static int be_silent(void) {
    virSetErrorFunc(NULL, ignore);
    return setenv("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null", 1);
}

int clibvirt_initialize(const char *root) {
    if (be_silent() < 0 || setenv("HOME", root, 1) < 0 ||
        setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1) < 0 || virInitialize() < 0)
        return -1;
    return virEventRegisterDefaultImpl();
}

unsigned long clibvirt_version(void) {
    if (be_silent() < 0) return 0;
    unsigned long version = 0;
    return virGetVersion(&version, NULL, NULL) < 0 ? 0 : version;
}

void clibvirt_serve_events(void) {
    while (virEventRunDefaultImpl() == 0) {
    }
}

static int tell(virConnectPtr from, virDomainPtr about, int event, int detail, void *opaque) {
    (void)from;
    (void)about;
    unsigned char bytes[2] = {(unsigned char)event, (unsigned char)detail};
    // A pipe takes two bytes whole or not at all; it is never full of the few events of a domain.
    ssize_t written = write((int)(intptr_t)opaque, bytes, sizeof bytes);
    (void)written;
    return 0;
}

int clibvirt_open(const char *uri, int events) {
    connection = virConnectOpen(uri);
    if (connection == NULL) return -1;
    int id = virConnectDomainEventRegisterAny(
        connection, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(tell),
        (void *)(intptr_t)events, NULL);
    return id < 0 ? -1 : 0;
}

int clibvirt_probe(const char *emulator, const char *machine) {
    char *found =
        virConnectGetDomainCapabilities(connection, emulator, "x86_64", machine, NULL, 0);
    if (found == NULL) return -1;
    free(found);
    return 0;
}

int clibvirt_define(const char *xml) {
    domain = virDomainDefineXML(connection, xml);
    return domain == NULL ? -1 : 0;
}

int clibvirt_associate(const char *name, int descriptor) {
    return virDomainFDAssociate(domain, name, 1, &descriptor, 0);
}

int clibvirt_start(void) { return virDomainCreate(domain); }
int clibvirt_suspend(void) { return virDomainSuspend(domain); }
int clibvirt_resume(void) { return virDomainResume(domain); }

int clibvirt_set_memory(unsigned long kibibytes) {
    return virDomainSetMemoryFlags(domain, kibibytes, VIR_DOMAIN_AFFECT_LIVE);
}

int clibvirt_memory(unsigned long long *kibibytes) {
    virDomainMemoryStatStruct found[VIR_DOMAIN_MEMORY_STAT_NR];
    int count = virDomainMemoryStats(domain, found, VIR_DOMAIN_MEMORY_STAT_NR, 0);
    for (int i = 0; i < count; i++) {
        if (found[i].tag != VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON) continue;
        *kibibytes = found[i].val;
        return 0;
    }
    return -1;
}

int clibvirt_block_counters(const char *disk, struct clibvirt_block_counters *counters) {
    virDomainBlockStatsStruct found;
    if (virDomainBlockStats(domain, disk, &found, sizeof found) < 0) return -1;
    counters->reads = found.rd_req;
    counters->read_bytes = found.rd_bytes;
    counters->writes = found.wr_req;
    counters->written_bytes = found.wr_bytes;
    return 0;
}

void clibvirt_error(char *text, size_t size) {
    const char *message = virGetLastErrorMessage();
    snprintf(text, size, "%s", message == NULL ? "unknown" : message);
}
