/*
 * What every hostile program uses. A hostile program tries to break the system it runs on: it makes the machine do too
 * much at once, or nonsense, and then looks whether everything is still as it was. Unlike a twin it judges itself: it
 * prints what it does, one line for each thing that is wrong, and last "ok" (exit status 0) or "FAILED" (1).
 *
 * Everything that looks random comes from the seed, so that a failure can be had again.
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define UNUSED_OK __attribute__((unused))
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Things found wrong, by this process and its children. */
static _Atomic unsigned *hostile_failures;

/* Says that something is wrong. The first twenty are printed. */
UNUSED_OK __attribute__((format(printf, 1, 2))) static void wrong(const char *format, ...)
{
	va_list list;
	char text[400];

	if (atomic_fetch_add(hostile_failures, 1) >= 20)
		return;
	va_start(list, format);
	int length = snprintf(text, sizeof text, "wrong: ");
	length += vsnprintf(text + length, sizeof text - length - 1, format, list);
	va_end(list);
	if (length > (int)sizeof text - 2)
		length = sizeof text - 2;
	text[length++] = '\n';
	if (write(1, text, length) < 0)
		_exit(1);
}

/* Complains unless the condition holds. */
#define MUST(condition)                                                                                                \
	({                                                                                                             \
		errno = 0;                                                                                             \
		int good_ = !!(condition);                                                                             \
		if (!good_)                                                                                            \
			wrong("%s:%d: %s: %s", __FILE_NAME__, __LINE__, #condition, strerrorname_np(errno));           \
		good_;                                                                                                 \
	})

/* Complains unless the call fails with this errno. */
#define FAILS(call, error)                                                                                             \
	({                                                                                                             \
		errno = 0;                                                                                             \
		long result_ = (long)(call);                                                                           \
		if (result_ != -1 || errno != (error))                                                                 \
			wrong("%s:%d: %s = %ld %s, not %s", __FILE_NAME__, __LINE__, #call, result_,                   \
			      result_ == -1 ? strerrorname_np(errno) : "", strerrorname_np(error));                    \
	})

/* Random numbers: the same from the same seed (xorshift64*, Vigna 2016). */
typedef struct {
	uint64_t state;
} Random;

UNUSED_OK static Random random_from(uint64_t seed)
{
	return (Random){seed * 0x9e3779b97f4a7c15u + 0x5851f42d4c957f2du};
}

UNUSED_OK static uint64_t random_next(Random *random)
{
	random->state ^= random->state >> 12;
	random->state ^= random->state << 25;
	random->state ^= random->state >> 27;
	return random->state * 0x2545f4914f6cdd1du;
}

/* A number below `limit`. */
UNUSED_OK static uint64_t random_below(Random *random, uint64_t limit)
{
	return (random_next(random) >> 11) % limit;
}

UNUSED_OK static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

UNUSED_OK static void sleep_ms(long milliseconds)
{
	struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};

	while (nanosleep(&time, &time) && errno == EINTR)
		;
}

/* A row of /proc/meminfo, in KiB; -1 if there is none. */
UNUSED_OK static long memory_row(const char *name)
{
	char text[4096];
	int file = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);

	close(file);
	if (length < 0)
		return -1;
	text[length] = 0;
	const char *row = strstr(text, name);
	return row ? atol(row + strlen(name) + 1) : -1;
}

/* What the system holds when nothing is left of what a program did. */
typedef struct {
	long free, slab;
} Memory;

UNUSED_OK static Memory memory_now(void)
{
	/* What ended a moment ago may still be on its way out on another CPU. */
	sleep_ms(200);
	return (Memory){memory_row("MemFree:"), memory_row("Slab:")};
}

/*
 * Complains if memory is missing since `before`: more than `slack` KiB. The first time anything is done caches fill, so
 * `before` is to be taken after a first round.
 */
UNUSED_OK static void memory_is_back(const char *what, Memory before, long slack)
{
	uint64_t end = now_ns() + 60000000000;
	Memory after;

	/* What is very much goes a piece at a time: files behind their mounts, processes as init collects them. */
	do
		after = memory_now();
	while ((before.free - after.free > slack || after.slab - before.slab > slack) && now_ns() < end);
	printf("%s: free memory %ld -> %ld KiB, slab %ld -> %ld KiB\n", what, before.free, after.free, before.slab,
	       after.slab);
	if (before.free - after.free > slack)
		wrong("%s: %ld KiB of memory are lost", what, before.free - after.free);
	if (after.slab - before.slab > slack)
		wrong("%s: %ld KiB of the kernel's heap are lost", what, after.slab - before.slab);
}

/* Collects all children; gives how many there were. */
UNUSED_OK static unsigned collect_all(void)
{
	unsigned count = 0;

	for (;;) {
		pid_t child = wait(NULL);

		if (child > 0)
			count++;
		else if (errno != EINTR)
			return count;
	}
}

/* Shared, zeroed memory that children see too. */
UNUSED_OK static void *shared_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	return memory;
}

/* One part of a program's work. Some (mounts) only the superuser can do. */
typedef struct {
	const char *name;
	void (*run)(void);
	int superuser;
} Part;

/* Runs all parts that this user can do, or the one named, each with a line that tells how it went and how long it took. */
UNUSED_OK static int run_parts(const Part *parts, size_t count, const char *only)
{
	for (size_t i = 0; i < count; i++) {
		if (only && strcmp(only, "all") && strcmp(only, parts[i].name))
			continue;
		if (parts[i].superuser && geteuid() != 0) {
			printf("%s: for the superuser\n", parts[i].name);
			continue;
		}
		unsigned before = atomic_load(hostile_failures);
		uint64_t start = now_ns();
		printf("%s ...\n", parts[i].name);
		parts[i].run();
		printf("%s: %s, %llu ms\n", parts[i].name, atomic_load(hostile_failures) == before ? "good" : "BAD",
		       (unsigned long long)(now_ns() - start) / 1000000);
	}
	return 0;
}

/* The last line and the exit status. */
UNUSED_OK static int verdict(void)
{
	unsigned failures = atomic_load(hostile_failures);

	if (failures)
		printf("FAILED: %u things are wrong\n", failures);
	else
		printf("ok\n");
	return failures != 0;
}

__attribute__((constructor)) static void hostile_begin(void)
{
	static char buffer[1024];

	hostile_failures = shared_memory(PAGE);
	setvbuf(stdout, buffer, _IOLBF, sizeof buffer);
}

#endif
