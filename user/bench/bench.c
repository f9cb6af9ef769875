/*
 * The benchmark program: what the operations of a kernel cost, seen from a program.
 *
 * Each row is an operation, repeated; the row's figure is the time-stamp counter's ticks for one operation, in the best of
 * several rounds. In a machine that counts instructions (QEMU's -icount) a tick is an instruction, otherwise it is
 * a unit of wall time: the same program measures both, and the ratio between two kernels needs no unit.
 *
 * Output: a line "row<tab>NAME<tab>TICKS" for each row, then "end". Arguments: the rows to run; none runs all. "--nothing" ends
 * at once: the program that fork+exec executes. "--here" before them goes without a file system of its own, which rows about files
 * need, and first prints "second<tab>TICKS".
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

static const char *self;

/* --- calls ------------------------------------------------------------------------------------------------------- */

static int zero, null;

static void null_call(int count)
{
	while (count--)
		syscall(SYS_getppid);
}

static void look_at_clock(int count)
{
	struct timespec time;

	while (count--)
		if (clock_gettime(CLOCK_MONOTONIC, &time))
			fail("clock_gettime");
}

static void read_byte(int count)
{
	char byte;

	while (count--)
		if (read(zero, &byte, 1) != 1)
			fail("read");
}

static void write_byte(int count)
{
	char byte = 0;

	while (count--)
		if (write(null, &byte, 1) != 1)
			fail("write");
}

static int cached;

/* A page of a file that is in the page cache. */
static void open_cached(int on)
{
	char page[PAGE] = { 1 };

	if (!on) {
		close(cached);
		return;
	}
	cached = open("/tmp/bench/cached", O_RDWR | O_CREAT, 0644);
	if (cached < 0 || pwrite(cached, page, PAGE, 0) != PAGE)
		fail("a page of a file");
}

static void read_cached(int count)
{
	char page[PAGE];

	while (count--)
		if (pread(cached, page, PAGE, 0) != PAGE)
			fail("pread");
}

static void stat_file(int count)
{
	struct stat status;

	while (count--)
		if (stat("/tmp/bench/file", &status))
			fail("stat");
}

static void open_close(int count)
{
	while (count--) {
		int file = open("/tmp/bench/file", O_RDONLY);

		if (file < 0)
			fail("open");
		close(file);
	}
}

static int idle_pipe[2], first_of_many;

static void select_100(int count)
{
	while (count--) {
		fd_set set;
		struct timeval now = { 0, 0 };

		FD_ZERO(&set);
		for (int number = 0; number < 100; number++)
			FD_SET(first_of_many + number, &set);
		if (select(first_of_many + 100, &set, NULL, NULL, &now) != 0)
			fail("select");
	}
}

/* --- processes ---------------------------------------------------------------------------------------------------- */

/* A ring of processes, each waiting for a byte from the one before it and passing it on; we are one of them. */
static int ring_in, ring_out;
static pid_t ring_members[16];
static int ring_size;

static void start_ring(int size)
{
	int first[2], before, others[2];

	if (pipe(first))
		fail("pipe");
	before = first[0];
	ring_out = first[1];
	ring_size = size;
	for (int member = 1; member < size; member++) {
		if (pipe(others))
			fail("pipe");
		ring_members[member] = fork();
		if (ring_members[member] < 0)
			fail("fork");
		if (ring_members[member] == 0) {
			char byte;

			close(ring_out);
			while (read(before, &byte, 1) == 1)
				if (write(others[1], &byte, 1) != 1)
					break;
			_exit(0);
		}
		close(before);
		close(others[1]);
		before = others[0];
	}
	ring_in = before;
}

static void stop_ring(void)
{
	close(ring_out);
	for (int member = 1; member < ring_size; member++)
		waitpid(ring_members[member], NULL, 0);
	close(ring_in);
}

static void go_round(int count)
{
	char byte = 0;

	while (count--)
		if (write(ring_out, &byte, 1) != 1 || read(ring_in, &byte, 1) != 1)
			fail("ring");
}

static void fork_exit(int count)
{
	while (count--) {
		pid_t child = fork();

		if (child < 0)
			fail("fork");
		if (child == 0)
			_exit(0);
		waitpid(child, NULL, 0);
	}
}

static void fork_exec(int count)
{
	while (count--) {
		pid_t child = fork();
		int status;

		if (child < 0)
			fail("fork");
		if (child == 0) {
			execl(self, self, "--nothing", NULL);
			_exit(1);
		}
		if (waitpid(child, &status, 0) != child || status != 0)
			fail("exec");
	}
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

static char *fresh;

static void map_fresh(int pages)
{
	fresh = mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fresh == MAP_FAILED)
		fail("mmap");
	madvise(fresh, (size_t)pages * PAGE, MADV_NOHUGEPAGE);
}

static void page_fault(int count)
{
	for (int page = 0; page < count; page++)
		fresh[(size_t)page * PAGE] = 1;
}

static void map_unmap(int count)
{
	while (count--) {
		char *area = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (area == MAP_FAILED)
			fail("mmap");
		area[0] = 1;
		munmap(area, 16 * PAGE);
	}
}

/* --- signals ------------------------------------------------------------------------------------------------------- */

static volatile int handled;

static void handler(int signal)
{
	(void)signal;
	handled++;
}

static void install(int count)
{
	struct sigaction action = { .sa_handler = handler };

	while (count--)
		if (sigaction(SIGUSR1, &action, NULL))
			fail("sigaction");
}

static void deliver(int count)
{
	pid_t own = getpid();

	while (count--)
		kill(own, SIGUSR1);
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static void create_delete(int count)
{
	while (count--) {
		int file = open("/tmp/bench/new", O_CREAT | O_EXCL | O_WRONLY, 0644);

		if (file < 0)
			fail("create");
		close(file);
		if (unlink("/tmp/bench/new"))
			fail("unlink");
	}
}

/* --- the table ------------------------------------------------------------------------------------------------------ */

static void ring_of_2(int on)
{
	on ? start_ring(2) : stop_ring();
}

static void ring_of_16(int on)
{
	on ? start_ring(16) : stop_ring();
}

static void fault_pages(int on)
{
	on ? map_fresh(1024) : (void)munmap(fresh, 1024 * PAGE);
}

static const struct row {
	const char *name;
	void (*operation)(int count);
	int count;
	int per_operation;		/* what one repetition counts for: hops of a ring */
	void (*prepare)(int on);	/* before (1) and after (0) each round */
} rows[] = {
	{ "null call", null_call, 2000, 1, NULL },
	{ "clock_gettime", look_at_clock, 2000, 1, NULL },
	{ "read", read_byte, 2000, 1, NULL },
	{ "write", write_byte, 2000, 1, NULL },
	{ "pread of a cached page", read_cached, 1000, 1, open_cached },
	{ "stat", stat_file, 1000, 1, NULL },
	{ "open+close", open_close, 1000, 1, NULL },
	{ "select on 100", select_100, 200, 1, NULL },
	{ "pipe ping-pong", go_round, 500, 1, ring_of_2 },
	{ "context switch, 2 processes", go_round, 500, 2, ring_of_2 },
	{ "context switch, 16 processes", go_round, 100, 16, ring_of_16 },
	{ "fork+exit", fork_exit, 50, 1, NULL },
	{ "fork+exec", fork_exec, 25, 1, NULL },
	{ "page fault", page_fault, 1024, 1, fault_pages },
	{ "mmap+munmap", map_unmap, 500, 1, NULL },
	{ "signal install", install, 1000, 1, NULL },
	{ "signal delivery", deliver, 500, 1, NULL },
	{ "tmpfs create+delete", create_delete, 500, 1, NULL },
};

enum { ROUNDS = 7 };

static void measure(const struct row *row)
{
	unsigned long long best = ~0ULL;

	for (int round = 0; round < ROUNDS; round++) {
		unsigned long long begin, end;

		if (row->prepare)
			row->prepare(1);
		row->operation(1);
		begin = ticks();
		row->operation(row->count);
		end = ticks();
		if (row->prepare)
			row->prepare(0);
		if (end - begin < best)
			best = end - begin;
	}
	printf("row\t%s\t%.1f\n", row->name, (double)best / row->count / row->per_operation);
	fflush(stdout);
}

static int wanted(const char *name, int count, char **names)
{
	for (int index = 0; index < count; index++)
		if (strcmp(name, names[index]) == 0)
			return 1;
	return count == 0;
}

/* Ticks of a second, from a tenth of one. */
static void print_second(void)
{
	struct timespec begin, now;
	unsigned long long first = ticks();
	long long passed;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
		passed = (now.tv_sec - begin.tv_sec) * 1000000000LL + now.tv_nsec - begin.tv_nsec;
	} while (passed < 100000000);
	printf("second\t%.0f\n", (double)(ticks() - first) * 1e9 / passed);
}

static void make_files(void)
{
	mkdir("/tmp/bench", 0755);
	if (mount("bench", "/tmp/bench", "tmpfs", 0, NULL))
		fail("mount");
	close(open("/tmp/bench/file", O_CREAT | O_WRONLY, 0644));
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = handler };

	if (argc == 2 && strcmp(argv[1], "--nothing") == 0)
		return 0;
	self = argv[0];
	if (argc > 1 && strcmp(argv[1], "--here") == 0) {
		print_second();
		argc--, argv++;
	} else {
		make_files();
	}
	zero = open("/dev/zero", O_RDONLY);
	null = open("/dev/null", O_WRONLY);
	if (zero < 0 || null < 0 || pipe(idle_pipe))
		fail("/dev/zero, /dev/null");
	first_of_many = fcntl(idle_pipe[0], F_DUPFD, 20);
	for (int number = 1; number < 100; number++)
		if (dup2(idle_pipe[0], first_of_many + number) < 0)
			fail("dup2");
	sigaction(SIGUSR1, &action, NULL);
	for (size_t index = 0; index < sizeof rows / sizeof rows[0]; index++)
		if (wanted(rows[index].name, argc - 1, argv + 1))
			measure(&rows[index]);
	say_end();
	return 0;
}
