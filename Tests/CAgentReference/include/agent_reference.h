// The agent's messages as protobuf-c sees them, for tests that compare it with SwiftProtobuf.
#ifndef APUS_AGENT_REFERENCE_H
#define APUS_AGENT_REFERENCE_H
#include <stddef.h>
#include <stdint.h>

// How many messages there are, map entries not counted.
int agent_reference_count(void);

// The full name of message `index`, such as `apus.agent.v1.Empty`.
const char *agent_reference_name(int index);

// Writes the wire form of a random message with every kind of field that its description has.
// Returns its length, or -1 when it does not fit.
int64_t agent_reference_random(int index, uint64_t seed, uint8_t *out, size_t capacity);

// Unpacks and packs again with protobuf-c. Returns the length, -1 when the bytes are refused, -2
// when the result does not fit.
int64_t agent_reference_repack(
    int index, const uint8_t *in, size_t length, uint8_t *out, size_t capacity
);
#endif
