#include "agent_reference.h"

#include <agent.pb-c.h>
#include <string.h>

#define MESSAGE(name) &apus__agent__v1__##name##__descriptor
static const ProtobufCMessageDescriptor *const messages[] = {
    MESSAGE(empty), MESSAGE(hello_request), MESSAGE(hello_response),
    MESSAGE(create_container_request), MESSAGE(root), MESSAGE(mount), MESSAGE(device),
    MESSAGE(process), MESSAGE(user), MESSAGE(capabilities), MESSAGE(resource_limit),
    MESSAGE(seccomp), MESSAGE(seccomp_rule), MESSAGE(seccomp_argument), MESSAGE(streams),
    MESSAGE(resources), MESSAGE(create_container_response), MESSAGE(add_process_request),
    MESSAGE(process_request), MESSAGE(start_process_response), MESSAGE(wait_process_response),
    MESSAGE(signal_process_request), MESSAGE(resize_terminal_request), MESSAGE(container_request),
    MESSAGE(list_processes_response), MESSAGE(process_entry), MESSAGE(update_container_request),
    MESSAGE(container_statistics_response), MESSAGE(ioentry), MESSAGE(next_event_request),
    MESSAGE(next_event_response), MESSAGE(container_event),
};

int agent_reference_count(void) { return (int)(sizeof messages / sizeof messages[0]); }

const char *agent_reference_name(int index) { return messages[index]->name; }

struct writer {
    uint8_t *out;
    size_t length, capacity;
    uint64_t state;
    int failed;
};

// xorshift64*
static uint64_t next(struct writer *w) {
    w->state ^= w->state >> 12;
    w->state ^= w->state << 25;
    w->state ^= w->state >> 27;
    return w->state * 2685821657736338717ull;
}

static void put(struct writer *w, uint8_t byte) {
    if (w->length == w->capacity) {
        w->failed = 1;
        return;
    }
    w->out[w->length++] = byte;
}

static void put_varint(struct writer *w, uint64_t value) {
    while (value >= 0x80) {
        put(w, (uint8_t)(value | 0x80));
        value >>= 7;
    }
    put(w, (uint8_t)value);
}

// Small, large, and the ends of the ranges.
static uint64_t number(struct writer *w) {
    switch (next(w) % 6) {
    case 0: return 0;
    case 1: return next(w) % 200;
    case 2: return UINT32_MAX;
    case 3: return UINT64_MAX;
    case 4: return (uint64_t)INT64_MAX + next(w) % 2;
    default: return next(w);
    }
}

static void put_message(
    struct writer *w, const ProtobufCMessageDescriptor *message, int depth
);

static void put_bytes(struct writer *w, int is_text) {
    static const char *const pieces[] = {
        "", "a", "CAP_KILL", "/dev/pts", "\xc3\xa9", "\xf0\x9f\x98\x80",
    };
    size_t count = next(w) % 4;
    uint8_t content[64];
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_text) {
            const char *piece = pieces[next(w) % 6];
            memcpy(content + length, piece, strlen(piece));
            length += strlen(piece);
        } else {
            content[length++] = (uint8_t)next(w);
        }
    }
    put_varint(w, length);
    for (size_t i = 0; i < length; i++) put(w, content[i]);
}

static void put_value(struct writer *w, const ProtobufCFieldDescriptor *field, int depth) {
    uint64_t value = number(w);
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
        put_varint(w, (uint64_t)field->id << 3 | 2);
        put_bytes(w, field->type == PROTOBUF_C_TYPE_STRING);
        return;
    case PROTOBUF_C_TYPE_MESSAGE: {
        uint8_t content[4096];
        struct writer inner = {content, 0, sizeof content, next(w) | 1, 0};
        put_message(&inner, field->descriptor, depth + 1);
        if (inner.failed) inner.length = 0;
        put_varint(w, (uint64_t)field->id << 3 | 2);
        put_varint(w, inner.length);
        for (size_t i = 0; i < inner.length; i++) put(w, content[i]);
        return;
    }
    case PROTOBUF_C_TYPE_BOOL: value &= 1; break;
    case PROTOBUF_C_TYPE_UINT32: value &= UINT32_MAX; break;
    // Negative ones are written with ten bytes.
    case PROTOBUF_C_TYPE_INT32: value = (uint64_t)(int64_t)(int32_t)value; break;
    case PROTOBUF_C_TYPE_ENUM: value %= 9; break;
    default: break;
    }
    put_varint(w, (uint64_t)field->id << 3);
    put_varint(w, value);
}

static void put_message(
    struct writer *w, const ProtobufCMessageDescriptor *message, int depth
) {
    for (unsigned i = 0; i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];
        unsigned most = field->label == PROTOBUF_C_LABEL_REPEATED ? 3 : 2;
        unsigned count = (unsigned)(next(w) % most);
        if (depth > 3 && field->type == PROTOBUF_C_TYPE_MESSAGE) count = 0;
        for (unsigned n = 0; n < count; n++) put_value(w, field, depth);
        // A field that neither side knows.
        if (next(w) % 8 == 0) {
            put_varint(w, 1999 << 3 | 2);
            put_varint(w, 2);
            put(w, 0xff);
            put(w, 0x00);
        }
    }
}

int64_t agent_reference_random(int index, uint64_t seed, uint8_t *out, size_t capacity) {
    struct writer w = {out, 0, capacity, seed | 1, 0};
    for (int i = 0; i < 8; i++) next(&w);
    put_message(&w, messages[index], 0);
    return w.failed ? -1 : (int64_t)w.length;
}

int64_t agent_reference_repack(
    int index, const uint8_t *in, size_t length, uint8_t *out, size_t capacity
) {
    ProtobufCMessage *message = protobuf_c_message_unpack(messages[index], NULL, length, in);
    if (!message) return -1;
    size_t size = protobuf_c_message_get_packed_size(message);
    int64_t result = -2;
    if (size <= capacity) result = (int64_t)protobuf_c_message_pack(message, out);
    protobuf_c_message_free_unpacked(message, NULL);
    return result;
}
