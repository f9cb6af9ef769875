/*
 * Everything a program can make long, once each. It judges nothing itself: the watchdog measures meanwhile how long each
 * call kept its CPU without letting others run (/proc/longest_polls), and the test looks at that.
 *
 * long [MIB]: how much memory to use for what is quick by the page; a quarter of it is used for what is slow by the byte.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE 4096UL
#define FILE_NAME "/tmp/long"

static size_t much, some;
static int may_lock;

static void must(int holds, const char *what)
{
	if (!holds) {
		printf("%s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static char *map(size_t length, int flags)
{
	char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	must(at != MAP_FAILED, "mmap");
	return at;
}

static void wait_for(pid_t child)
{
	int status;
	must(child > 0 && waitpid(child, &status, 0) == child && status == 0, "child");
}

/* Copies of a large space, and their ends. */
static void forks(void)
{
	char *memory = map(much, MAP_POPULATE);
	for (int round = 0; round < 2; round++) {
		pid_t child = fork();
		if (child == 0)
			_exit(0);
		wait_for(child);
	}
	munmap(memory, much);
	pid_t child = fork();
	if (child == 0) {
		map(much, MAP_POPULATE);
		_exit(0);
	}
	wait_for(child);
}

static void memory(void)
{
	char *at = map(much, 0);
	must(madvise(at, much, MADV_POPULATE_READ) == 0, "MADV_POPULATE_READ");
	must(madvise(at, much, MADV_POPULATE_WRITE) == 0, "MADV_POPULATE_WRITE");
	must(mprotect(at, much, PROT_READ) == 0, "mprotect");
	must(mprotect(at, much, PROT_READ | PROT_WRITE) == 0, "mprotect");
	static unsigned char resident[1 << 20];
	must(mincore(at, much, resident) == 0, "mincore");
	must(msync(at, much, MS_SYNC) == 0, "msync");
	char *moved = mremap(at, much, much + PAGE, MREMAP_MAYMOVE);
	must(moved != MAP_FAILED, "mremap");
	must(madvise(moved, much / 2, MADV_DONTNEED) == 0, "MADV_DONTNEED");
	must(mmap(moved, much, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == moved, "MAP_FIXED");
	must(munmap(moved, much + PAGE) == 0, "munmap");
	at = map(much, MAP_POPULATE);
	if (may_lock) {
		must(mlock(at, much) == 0, "mlock");
		must(munlock(at, much) == 0, "munlock");
	}
	must(munmap(at, much) == 0, "munmap");
	char *heap = sbrk(much);
	must(heap != (void *)-1, "brk");
	memset(heap, 1, much);
	must(brk(heap) == 0, "brk");
}

/* Many areas: every other page has other rights. */
static void areas(void)
{
	size_t length = 20000 * PAGE;
	char *at = map(length, 0);
	for (size_t page = 0; page < length; page += 2 * PAGE)
		must(mprotect(at + page, PAGE, PROT_READ) == 0, "mprotect of a page");
	forks();
	must(madvise(at, length, MADV_DONTFORK) == 0, "MADV_DONTFORK");
	if (may_lock) {
		must(mlock2(at, length, MLOCK_ONFAULT) == 0, "mlock2");
		must(munlock(at, length) == 0, "munlock");
	}
	must(mprotect(at, length, PROT_READ) == 0, "mprotect of all");
	must(munmap(at, length) == 0, "munmap of all");
}

static void files(void)
{
	char *buffer = map(some, MAP_POPULATE);
	int file = open(FILE_NAME, O_RDWR | O_CREAT | O_TRUNC, 0600);
	must(file >= 0, FILE_NAME);
	must(write(file, buffer, some) == (ssize_t)some, "write");
	must(pread(file, buffer, some, 0) == (ssize_t)some, "pread");
	struct iovec halves[2] = {{buffer, some / 2}, {buffer + some / 2, some / 2}};
	must(pwritev(file, halves, 2, 0) == (ssize_t)some, "pwritev");
	must(preadv(file, halves, 2, 0) == (ssize_t)some, "preadv");
	int null = open("/dev/null", O_WRONLY), zero = open("/dev/zero", O_RDONLY), random = open("/dev/urandom", O_RDONLY);
	off_t at = 0;
	must(sendfile(null, file, &at, some) == (ssize_t)some, "sendfile");
	must(read(zero, buffer, some) == (ssize_t)some, "read /dev/zero");
	must(read(random, buffer, some / 8) == (ssize_t)some / 8, "read /dev/urandom");
	must(getrandom(buffer, some / 4, 0) == (ssize_t)some / 4, "getrandom");
	int other = open(FILE_NAME "2", O_RDWR | O_CREAT | O_TRUNC, 0600);
	loff_t from = 0, to = 0;
	must(copy_file_range(file, &from, other, &to, some, 0) == (ssize_t)some, "copy_file_range");
	must(ftruncate(other, 0) == 0, "ftruncate");
	must(fallocate(other, 0, 0, some) == 0, "fallocate");
	must(fallocate(other, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, some - PAGE) == 0, "FALLOC_FL_PUNCH_HOLE");
	must(fallocate(other, 0, 0, some) == 0, "fallocate");
	must(truncate(FILE_NAME "2", 1) == 0, "truncate");
	close(open(FILE_NAME, O_RDWR | O_TRUNC));
	must(fallocate(file, 0, 0, some) == 0, "fallocate");
	char *mapped = mmap(NULL, some, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
	must(mapped != MAP_FAILED, "mmap of a file");
	must(msync(mapped, some, MS_SYNC) == 0, "msync");
	must(munmap(mapped, some) == 0, "munmap of a file");
	must(unlink(FILE_NAME) == 0 && unlink(FILE_NAME "2") == 0, "unlink");
	close(file);
	close(other);
	close(null), close(zero), close(random);
	munmap(buffer, some);
}

static void descriptors(void)
{
	enum { COUNT = 20000 };
	struct rlimit limit = {COUNT + 100, COUNT + 100};
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		return; /* an ordinary user */
	static struct pollfd entries[COUNT];
	int ends[2];
	must(pipe(ends) == 0, "pipe");
	for (int i = 0; i < COUNT - 10; i++)
		entries[i] = (struct pollfd){dup(ends[0]), POLLIN, 0};
	must(poll(entries, COUNT - 10, 0) == 0, "poll");
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	wait_for(child);
	must(close_range(10, ~0U, 0) == 0, "close_range");
	close(ends[0]), close(ends[1]);
}

static void names(void)
{
	enum { COUNT = 5000 };
	char name[64], entries[65536];
	must(mkdir("/tmp/names", 0700) == 0, "mkdir");
	for (int i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "/tmp/names/%d", i);
		close(open(name, O_CREAT | O_WRONLY, 0600));
	}
	int directory = open("/tmp/names", O_RDONLY | O_DIRECTORY);
	while (syscall(SYS_getdents64, directory, entries, sizeof(entries)) > 0)
		;
	close(directory);
	for (int i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "/tmp/names/%d", i);
		unlink(name);
	}
	must(rmdir("/tmp/names") == 0, "rmdir");
}

/* A program with many arguments. */
static void arguments(const char *self)
{
	enum { COUNT = 12 };
	static char argument[100000];
	memset(argument, 'x', sizeof(argument) - 1);
	char *all[COUNT + 3] = {(char *)self, "nothing"};
	for (int i = 0; i < COUNT; i++)
		all[i + 2] = argument;
	pid_t child = fork();
	if (child == 0) {
		execv(self, all);
		_exit(1);
	}
	wait_for(child);
}

int main(int count, char **given)
{
	if (count > 2)
		return 0; /* it is one with many arguments */
	much = (size_t)(count > 1 ? atoi(given[1]) : 160) << 20;
	some = much / 4;
	struct rlimit everything = {RLIM_INFINITY, RLIM_INFINITY};
	may_lock = setrlimit(RLIMIT_MEMLOCK, &everything) == 0; /* not for an ordinary user */
	forks();
	memory();
	areas();
	files();
	descriptors();
	names();
	arguments(given[0]);
	puts("ok");
	return 0;
}
