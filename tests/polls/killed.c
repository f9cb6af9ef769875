/*
 * What takes long is ended by SIGKILL in the middle: a child does it, and the parent kills the child once it sees that something has
 * been done. That the call ended in the middle shows afterwards: something was done, and not everything. The parent may come
 * too late, so there are many attempts; but a call that looks for no signal before its end is never seen so.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Many slices of the kernel's work: it lets others run after each. */
#define LENGTH (96UL << 20)
#define PAGE 4096UL
#define ATTEMPTS 100

static int file, other;
/* What parent and child both see. */
static unsigned char *shared;

static off_t size_of(int descriptor)
{
	struct stat status;
	fstat(descriptor, &status);
	return status.st_size;
}

static off_t blocks_of(int descriptor)
{
	struct stat status;
	fstat(descriptor, &status);
	return status.st_blocks * 512;
}

static void do_write(void) { write(other, shared, LENGTH); }
static void do_read(void) { pread(file, shared, LENGTH, 0); }
static void do_random(void) { getrandom(shared, LENGTH, 0); }
static void do_send(void)
{
	off_t at = 0;
	sendfile(other, file, &at, LENGTH);
}
static void do_populate(void)
{
	ftruncate(other, LENGTH);
	void *mapped = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
	madvise(mapped, LENGTH, MADV_POPULATE_WRITE);
}

enum progress { NOTHING, SOME, ALL };

static enum progress of_bytes(off_t done) { return done == 0 ? NOTHING : done < (off_t)LENGTH ? SOME : ALL; }
static enum progress written(void) { return of_bytes(size_of(other)); }
static enum progress allocated(void) { return of_bytes(blocks_of(other)); }
/* Memory is filled from its beginning to its end. */
static enum progress filled(void)
{
	static const unsigned char nothing[PAGE];
	if (memcmp(shared, nothing, PAGE) == 0)
		return NOTHING;
	return memcmp(shared + LENGTH - PAGE, nothing, PAGE) == 0 ? SOME : ALL;
}

struct kind {
	const char *name;
	void (*act)(void);
	enum progress (*progress)(void);
};

static const struct kind KINDS[] = {
	{"write", do_write, written},
	{"pread", do_read, filled},
	{"getrandom", do_random, filled},
	{"sendfile", do_send, written},
	{"MADV_POPULATE_WRITE", do_populate, allocated},
};

/* Whether the call was ended in the middle. */
static int ends_in_the_middle(const struct kind *kind)
{
	other = open("/tmp/killed2", O_RDWR | O_CREAT | O_TRUNC, 0600);
	shared = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	pid_t child = fork();
	if (child == 0) {
		kind->act();
		_exit(0);
	}
	int status = 0;
	pid_t ended = 0;
	while (ended == 0 && kind->progress() == NOTHING) {
		sched_yield();
		ended = waitpid(child, &status, WNOHANG);
	}
	if (ended == 0) {
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
	}
	int middle = WIFSIGNALED(status) && kind->progress() == SOME;
	munmap(shared, LENGTH);
	close(other);
	unlink("/tmp/killed2");
	return middle;
}

int main(void)
{
	int failed = 0;
	file = open("/tmp/killed", O_RDWR | O_CREAT | O_TRUNC, 0600);
	unsigned char ones[65536];
	memset(ones, 1, sizeof(ones));
	for (size_t at = 0; at < LENGTH; at += sizeof(ones))
		write(file, ones, sizeof(ones));
	for (size_t kind = 0; kind < sizeof(KINDS) / sizeof(KINDS[0]); kind++) {
		int attempt = 0;
		while (attempt < ATTEMPTS && !ends_in_the_middle(&KINDS[kind]))
			attempt++;
		if (attempt == ATTEMPTS) {
			printf("%s always went on to its end\n", KINDS[kind].name);
			failed = 1;
		}
	}
	unlink("/tmp/killed");
	puts(failed ? "FAILED" : "ok");
	return failed;
}
