#ifndef APUS_CARCHIVE_H
#define APUS_CARCHIVE_H
// The part of libarchive (archive.h, archive_entry.h of version 3.6) that Host uses, declared here
// because the library's own headers bring in all of sys/types.h, whose contents depend on feature
// macros and so clash with other C modules. The library's ABI has kept these since 3.0.
#include <stddef.h>
#include <stdint.h>

struct archive;
struct archive_entry;

#define ARCHIVE_EOF 1
#define ARCHIVE_OK 0
#define ARCHIVE_WARN (-20)

typedef ptrdiff_t archive_read_callback(struct archive *, void *context, const void **buffer);
typedef int64_t archive_skip_callback(struct archive *, void *context, int64_t request);
typedef int archive_open_callback(struct archive *, void *context);
typedef int archive_close_callback(struct archive *, void *context);

struct archive *archive_read_new(void);
int archive_read_free(struct archive *);
int archive_read_support_filter_gzip(struct archive *);
int archive_read_support_filter_zstd(struct archive *);
int archive_read_support_format_empty(struct archive *);
int archive_read_support_format_raw(struct archive *);
int archive_read_support_format_tar(struct archive *);
int archive_read_open2(
    struct archive *, void *context, archive_open_callback *, archive_read_callback *,
    archive_skip_callback *, archive_close_callback *);
int archive_read_next_header(struct archive *, struct archive_entry **);
int archive_read_data_block(struct archive *, const void **buffer, size_t *, int64_t *offset);
const char *archive_error_string(struct archive *);

const char *archive_entry_pathname(struct archive_entry *);
const char *archive_entry_hardlink(struct archive_entry *);
const char *archive_entry_symlink(struct archive_entry *);
unsigned archive_entry_filetype(struct archive_entry *);
unsigned archive_entry_perm(struct archive_entry *);
int64_t archive_entry_uid(struct archive_entry *);
int64_t archive_entry_gid(struct archive_entry *);
int64_t archive_entry_size(struct archive_entry *);
long archive_entry_mtime(struct archive_entry *);
long archive_entry_mtime_nsec(struct archive_entry *);
unsigned long archive_entry_rdevmajor(struct archive_entry *);
unsigned long archive_entry_rdevminor(struct archive_entry *);
int archive_entry_xattr_reset(struct archive_entry *);
int archive_entry_xattr_next(struct archive_entry *, const char **, const void **, size_t *);

// locale.h; LC_CTYPE is 0 in the C library.
char *setlocale(int category, const char *locale);
#endif
