/* Memory for large results that come and go, such as the columns of batch after batch. What is freed is kept, up to a
 * bound, and given out again: to touch a page for the first time costs a process more than the work that it then does
 * there. Threads may call all of it without the GIL. */
#ifndef PENSTOCK_REUSE_H
#define PENSTOCK_REUSE_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#if !defined(_WIN32)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

/* Less is left to malloc, which keeps it. */
#define PENSTOCK_MEMORY_LEAST (64u << 10)
/* What is kept in all, by each module of the kernel that includes this. */
#define PENSTOCK_MEMORY_MOST (32u << 20)
#define PENSTOCK_MEMORY_SLOTS 256
/* So much is asked for in huge pages, of so many bytes, where there are some: where records are read and copied by the
 * megabyte, addresses of more pages are needed at once than a processor keeps. */
#define PENSTOCK_MEMORY_HUGE (4u << 20)
#define PENSTOCK_HUGE_PAGE (2u << 20)

static struct {
    void *data;
    size_t capacity;
} memory_kept[PENSTOCK_MEMORY_SLOTS];
static int memory_slots;
static size_t memory_bytes;
static char memory_lock;

static void memory_enter(void) {
    while (__atomic_test_and_set(&memory_lock, __ATOMIC_ACQUIRE)) {
    }
}

static void memory_leave(void) { __atomic_clear(&memory_lock, __ATOMIC_RELEASE); }

/* To be called once, before anything else of this file. A fork waits until nobody is between the two above: the thread
 * that was there would be missing in it, and the lock held for ever. */
static void memory_init(void) {
#if !defined(_WIN32)
    pthread_atfork(memory_enter, memory_leave, memory_leave);
#endif
}

static void *memory_new(size_t size, size_t *capacity) {
#if defined(MADV_HUGEPAGE)
    if (size >= PENSTOCK_MEMORY_HUGE) {
        size = (size + PENSTOCK_HUGE_PAGE - 1) / PENSTOCK_HUGE_PAGE * PENSTOCK_HUGE_PAGE;
        void *data = aligned_alloc(PENSTOCK_HUGE_PAGE, size);
        if (data == NULL) return NULL;
        madvise(data, size, MADV_HUGEPAGE);
        *capacity = size;
        return data;
    }
#endif
    *capacity = size;
    return malloc(size ? size : 1);
}

/* At least so many bytes, how many is in `capacity`; NULL when memory is short. */
static void *memory_take(size_t size, size_t *capacity) {
    void *data = NULL;
    if (size >= PENSTOCK_MEMORY_LEAST) {
        int best = -1;
        memory_enter();
        for (int slot = 0; slot < memory_slots; slot++) {
            size_t kept = memory_kept[slot].capacity;
            /* Not much more than is asked for, which would be lost to others; of equal ones the one that was given
             * back last, which a cache may still have. */
            if (kept >= size && kept - kept / 3 <= size && (best < 0 || kept <= memory_kept[best].capacity)) best = slot;
        }
        if (best >= 0) {
            data = memory_kept[best].data;
            *capacity = memory_kept[best].capacity;
            memory_bytes -= *capacity;
            memory_slots--;
            memmove(memory_kept + best, memory_kept + best + 1, sizeof(memory_kept[0]) * (size_t)(memory_slots - best));
        }
        memory_leave();
    }
    if (data == NULL) data = memory_new(size, capacity);
    return data;
}

/* Gives memory back; the least recent of what is kept goes to the system when it would be too much. */
static void memory_give(void *data, size_t capacity) {
    if (data == NULL || capacity < PENSTOCK_MEMORY_LEAST || capacity > PENSTOCK_MEMORY_MOST) {
        free(data);
        return;
    }
    void *dropped[PENSTOCK_MEMORY_SLOTS];
    int count = 0;
    memory_enter();
    while (memory_slots == PENSTOCK_MEMORY_SLOTS || memory_bytes + capacity > PENSTOCK_MEMORY_MOST) {
        dropped[count++] = memory_kept[0].data;
        memory_bytes -= memory_kept[0].capacity;
        memory_slots--;
        memmove(memory_kept, memory_kept + 1, sizeof(memory_kept[0]) * (size_t)memory_slots);
    }
    memory_kept[memory_slots].data = data;
    memory_kept[memory_slots++].capacity = capacity;
    memory_bytes += capacity;
    memory_leave();
    while (count) free(dropped[--count]);
}

/* Moves the first `used` bytes to memory of at least `size` bytes, and gives back where they were; NULL when memory is
 * short, and then nothing has changed. */
static inline void *memory_grow(void *data, size_t used, size_t size, size_t *capacity) {
    if (*capacity < PENSTOCK_MEMORY_LEAST && size < PENSTOCK_MEMORY_LEAST) {
        void *grown = realloc(data, size ? size : 1);
        if (grown != NULL) *capacity = size;
        return grown;
    }
    size_t found;
    void *grown = memory_take(size, &found);
    if (grown == NULL) return NULL;
    if (used) memcpy(grown, data, used);
    memory_give(data, *capacity);
    *capacity = found;
    return grown;
}

#endif
