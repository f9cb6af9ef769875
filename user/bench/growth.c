/*
 * How the cost of an operation grows with what is there already: areas, threads, processes, mounts, names, descriptors.
 *
 * Each row is an operation beside n objects, measured at n, 10 n and 100 n, each time in a process of its own with an empty
 * file system of its own; the figure is the time-stamp counter's ticks for one operation, in the best of some rounds. An operation
 * may be about all n objects (moving n pages, polling n descriptors).
 *
 * Output: a line "row<tab>NAME<tab>EACH<tab>OBJECTS<tab>TICKS" for each figure, EACH being "each" for what is about all objects,
 * then "end". Arguments: the rows to run; none runs all.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define PLACE "/tmp/growth"

/* How many objects this process measures beside. */
static int objects;

/* --- memory ------------------------------------------------------------------------------------------------------- */

static char *map_pages(size_t pages, int protection)
{
	char *area = mmap(NULL, pages * PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		fail("mmap");
	return area;
}

/* Neighbours with different rights are not merged. */
static void make_areas(void)
{
	for (int area = 0; area < objects; area++)
		map_pages(1, area % 2 ? PROT_READ : PROT_READ | PROT_WRITE);
}

/* Areas of one page with a hole of one page below each. */
static void make_holes(void)
{
	char *all = map_pages(2 * (size_t)objects, PROT_READ);

	for (int area = 0; area < objects; area++)
		if (munmap(all + 2 * (size_t)area * PAGE, PAGE))
			fail("munmap");
}

static void map_unmap(int count)
{
	while (count--) {
		char *area = map_pages(16, PROT_READ | PROT_WRITE);

		area[0] = 1;
		if (munmap(area, 16 * PAGE))
			fail("munmap");
	}
}

static char *page;

static void make_areas_and_page(void)
{
	make_areas();
	page = map_pages(1, PROT_READ | PROT_WRITE);
}

static void fault(int count)
{
	while (count--) {
		if (madvise(page, PAGE, MADV_DONTNEED))
			fail("madvise");
		page[0] = 1;
	}
}

static char *here, *there;

static void make_pages(void)
{
	size_t size = (size_t)objects * PAGE;

	here = map_pages(objects, PROT_READ | PROT_WRITE);
	there = map_pages(objects, PROT_NONE);
	madvise(here, size, MADV_NOHUGEPAGE);
	memset(here, 1, size);
}

static void move_pages(int count)
{
	size_t size = (size_t)objects * PAGE;

	while (count--) {
		char *before = here;

		here = mremap(before, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, there);
		if (here == MAP_FAILED)
			fail("mremap");
		there = before;
	}
}

/* --- threads ------------------------------------------------------------------------------------------------------- */

static int words[4000];

static void *wait_for_ever(void *word)
{
	for (;;)
		syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	return NULL;
}

static void *return_at_once(void *nothing)
{
	return nothing;
}

static pthread_t start_thread(void *(*routine)(void *), void *argument)
{
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 4 * PAGE);
	errno = pthread_create(&thread, &attributes, routine, argument);
	if (errno)
		fail("pthread_create");
	return thread;
}

static void make_threads(void)
{
	for (int thread = 0; thread < objects; thread++)
		start_thread(wait_for_ever, &words[thread]);
	/* On one processor all of them have begun to wait when it is our turn again. */
	for (int turn = 0; turn < 10; turn++)
		usleep(1000);
}

static void create_join(int count)
{
	while (count--)
		pthread_join(start_thread(return_at_once, NULL), NULL);
}

static void signal_thread(int count)
{
	pid_t own = getpid(), tid = gettid();

	while (count--)
		if (syscall(SYS_tgkill, own, tid, 0))
			fail("tgkill");
}

static void wake_nobody(int count)
{
	static int word;

	while (count--)
		if (syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0))
			fail("futex");
}

/* --- signals ------------------------------------------------------------------------------------------------------- */

static void send_own(int signal)
{
	union sigval value = { .sival_int = 1 };

	if (sigqueue(getpid(), signal, value))
		fail("sigqueue");
}

static void make_pending(void)
{
	struct rlimit limit = { 20000, 20000 };
	sigset_t all;

	setrlimit(RLIMIT_SIGPENDING, &limit);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	for (int signal = 0; signal < objects; signal++)
		send_own(SIGRTMAX);
}

static void send_take(int signal, int count)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signal);
	while (count--) {
		send_own(signal);
		if (sigwaitinfo(&set, NULL) != signal)
			fail("sigwaitinfo");
	}
}

static void take_same(int count)
{
	send_take(SIGRTMAX, count);
}

static void take_other(int count)
{
	send_take(SIGRTMIN, count);
}

/* --- processes ---------------------------------------------------------------------------------------------------- */

static pid_t children[1000];

static pid_t start_child(void)
{
	pid_t child = fork();

	if (child < 0)
		fail("fork");
	if (child == 0)
		for (;;)
			pause();
	return child;
}

static void make_children(void)
{
	for (int child = 0; child < objects; child++)
		children[child] = start_child();
}

/* A child in a group of its own beside all others. */
static pid_t alone;

static void make_children_and_group(void)
{
	alone = start_child();
	if (setpgid(alone, alone))
		fail("setpgid");
	make_children();
}

/* All in the group of the first. */
static void make_group(void)
{
	make_children();
	for (int child = 0; child < objects; child++)
		if (setpgid(children[child], children[0]))
			fail("setpgid");
}

static void end_children(void)
{
	for (int child = 0; child < objects; child++)
		kill(children[child], SIGKILL);
	if (alone)
		kill(alone, SIGKILL);
	while (wait(NULL) > 0)
		;
}

static void fork_wait(int count)
{
	while (count--) {
		pid_t child = fork();

		if (child < 0)
			fail("fork");
		if (child == 0)
			_exit(0);
		if (waitpid(child, NULL, 0) != child)
			fail("waitpid");
	}
}

static void fork_wait_any(int count)
{
	while (count--) {
		pid_t child = fork();

		if (child < 0)
			fail("fork");
		if (child == 0)
			_exit(0);
		if (waitpid(-1, NULL, 0) != child)
			fail("waitpid");
	}
}

static void look_for_one(int count)
{
	while (count--)
		if (waitpid(children[0], NULL, WNOHANG))
			fail("waitpid");
}

static void look_for_any(int count)
{
	while (count--)
		if (waitpid(-1, NULL, WNOHANG))
			fail("waitpid");
}

static void kill_one(int count)
{
	while (count--)
		if (kill(children[0], 0))
			fail("kill");
}

static void kill_group_of_one(int count)
{
	while (count--)
		if (kill(-alone, 0))
			fail("kill");
}

static void kill_group(int count)
{
	while (count--)
		if (kill(-children[0], 0))
			fail("kill");
}

static void ask_parent(int count)
{
	while (count--)
		syscall(SYS_getppid);
}

static void move_between_groups(int count)
{
	while (count--)
		if (setpgid(children[0], alone) || setpgid(children[0], children[0]))
			fail("setpgid");
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static void make_file(const char *path)
{
	int file = open(path, O_CREAT | O_WRONLY, 0644);

	if (file < 0)
		fail(path);
	close(file);
}

static void make_mounts(void)
{
	char path[64];

	for (int number = 0; number < objects; number++) {
		snprintf(path, sizeof path, PLACE "/mount%d", number);
		if (mkdir(path, 0755) || mount("growth", path, "tmpfs", 0, NULL))
			fail("mount");
	}
	make_file(PLACE "/mount0/file");
}

static void stat_path(const char *path, int count)
{
	struct stat status;

	while (count--)
		if (stat(path, &status))
			fail("stat");
}

static void stat_in_mount(int count)
{
	stat_path(PLACE "/mount0/file", count);
}

static void mount_unmount(int count)
{
	while (count--)
		if (mount("growth", PLACE "/mount0", "tmpfs", 0, NULL) || umount(PLACE "/mount0"))
			fail("mount, umount");
}

static void make_names(void)
{
	char path[64];

	for (int number = 0; number < objects; number++) {
		snprintf(path, sizeof path, PLACE "/name%d", number);
		make_file(path);
	}
	make_file(PLACE "/file");
}

static void stat_name(int count)
{
	stat_path(PLACE "/file", count);
}

static void stat_nothing(int count)
{
	struct stat status;

	while (count--)
		if (stat(PLACE "/nothing", &status) == 0)
			fail("stat");
}

static void create_unlink(int count)
{
	while (count--) {
		make_file(PLACE "/new");
		if (unlink(PLACE "/new"))
			fail("unlink");
	}
}

static int idle_pipe[2];

static void make_descriptors(void)
{
	struct rlimit limit = { 20000, 20000 };

	if (setrlimit(RLIMIT_NOFILE, &limit) || pipe(idle_pipe))
		fail("pipe");
	for (int number = 0; number < objects; number++)
		if (dup(idle_pipe[0]) < 0)
			fail("dup");
	make_file(PLACE "/file");
}

static void open_close(int count)
{
	while (count--) {
		int file = open(PLACE "/file", O_RDONLY);

		if (file < 0)
			fail("open");
		close(file);
	}
}

static struct pollfd polled[1000];

static void make_polled(void)
{
	make_descriptors();
	for (int number = 0; number < objects; number++)
		polled[number] = (struct pollfd){ .fd = idle_pipe[1] + 1 + number, .events = POLLIN };
}

static void poll_all(int count)
{
	while (count--)
		if (poll(polled, objects, 0))
			fail("poll");
}

static int locked;

/* Locks of another process, which is not asked for what we lock. */
static void make_locks(void)
{
	int ready[2];
	char byte;

	locked = open(PLACE "/file", O_CREAT | O_RDWR, 0644);
	if (locked < 0 || pipe(ready))
		fail("open, pipe");
	alone = fork();
	if (alone < 0)
		fail("fork");
	if (alone == 0) {
		for (int number = 0; number < objects; number++) {
			struct flock lock = { .l_type = F_WRLCK, .l_start = 100 + 2 * number, .l_len = 1 };

			if (fcntl(locked, F_SETLK, &lock))
				_exit(1);
		}
		write(ready[1], "", 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		fail("fcntl");
	close(ready[0]);
}

static void end_locks(void)
{
	kill(alone, SIGKILL);
	waitpid(alone, NULL, 0);
}

static void lock_unlock(int count)
{
	while (count--) {
		struct flock lock = { .l_type = F_WRLCK, .l_start = 0, .l_len = 1 };

		if (fcntl(locked, F_SETLK, &lock))
			fail("fcntl");
		lock.l_type = F_UNLCK;
		if (fcntl(locked, F_SETLK, &lock))
			fail("fcntl");
	}
}

/* --- the table ------------------------------------------------------------------------------------------------------ */

static const struct row {
	const char *name;
	void (*operation)(int count);
	int count;
	int first;		/* the fewest objects */
	int per_object;		/* the operation is about all of them */
	void (*prepare)(void);
	void (*finish)(void);	/* what ends with the process needs none */
} rows[] = {
	{ "mmap+munmap beside areas", map_unmap, 50, 100, 0, make_areas, NULL },
	{ "mmap+munmap beside holes too small", map_unmap, 50, 100, 0, make_holes, NULL },
	{ "page fault beside areas", fault, 50, 100, 0, make_areas_and_page, NULL },
	{ "fork+exit of areas", fork_wait, 3, 100, 1, make_areas, NULL },
	{ "mremap, a page", move_pages, 10, 10, 1, make_pages, NULL },
	{ "thread create+join beside threads", create_join, 20, 40, 0, make_threads, NULL },
	{ "tgkill beside threads", signal_thread, 50, 40, 0, make_threads, NULL },
	{ "futex wake beside waiters", wake_nobody, 50, 40, 0, make_threads, NULL },
	{ "take one of pending signals", take_same, 50, 10, 0, make_pending, NULL },
	{ "take a signal behind pending others", take_other, 50, 10, 0, make_pending, NULL },
	{ "fork+exit beside processes", fork_wait, 10, 10, 0, make_children, end_children },
	{ "fork+exit, wait for any of children", fork_wait_any, 10, 10, 0, make_children, end_children },
	{ "look for the end of one of children", look_for_one, 50, 10, 0, make_children, end_children },
	{ "look for the end of children, a child", look_for_any, 50, 10, 1, make_children, end_children },
	{ "kill one of processes", kill_one, 50, 10, 0, make_children, end_children },
	{ "kill a group of one beside processes", kill_group_of_one, 50, 10, 0, make_children_and_group, end_children },
	{ "kill a group, a member", kill_group, 50, 10, 1, make_group, end_children },
	{ "getppid beside processes", ask_parent, 50, 10, 0, make_children, end_children },
	{ "setpgid twice beside processes", move_between_groups, 20, 10, 0, make_children_and_group, end_children },
	{ "stat behind mounts", stat_in_mount, 50, 5, 0, make_mounts, NULL },
	{ "mount+umount beside mounts", mount_unmount, 20, 5, 0, make_mounts, NULL },
	{ "stat among names", stat_name, 50, 100, 0, make_names, NULL },
	{ "stat of what is not among names", stat_nothing, 50, 100, 0, make_names, NULL },
	{ "create+unlink among names", create_unlink, 50, 100, 0, make_names, NULL },
	{ "open+close beside descriptors", open_close, 50, 100, 0, make_descriptors, NULL },
	{ "poll, a descriptor", poll_all, 20, 10, 1, make_polled, NULL },
	{ "lock+unlock beside record locks", lock_unlock, 50, 10, 0, make_locks, end_locks },
};

enum { ROUNDS = 3, STEPS = 3 };

static void measure(const struct row *row)
{
	unsigned long long best = ~0ULL;

	if (row->prepare)
		row->prepare();
	row->operation(1);
	for (int round = 0; round < ROUNDS; round++) {
		unsigned long long begin = ticks(), spent;

		row->operation(row->count);
		spent = ticks() - begin;
		if (spent < best)
			best = spent;
	}
	if (row->finish)
		row->finish();
	printf("row\t%s\t%s\t%d\t%.1f\n", row->name, row->per_object ? "each" : "", objects, (double)best / row->count);
	fflush(stdout);
}

/* In a process and a file system that are gone afterwards. */
static void measure_beside(const struct row *row, int count)
{
	int status;
	pid_t child;

	if (mount("growth", PLACE, "tmpfs", 0, NULL))
		fail("mount");
	child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		objects = count;
		measure(row);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status)
		printf("%s beside %d ended with %#x\n", row->name, count, status), exit(1);
	if (umount2(PLACE, MNT_DETACH))
		fail("umount");
}

static int wanted(const char *name, int count, char **names)
{
	for (int index = 0; index < count; index++)
		if (strcmp(name, names[index]) == 0)
			return 1;
	return count == 0;
}

int main(int argc, char **argv)
{
	mkdir(PLACE, 0755);
	for (size_t index = 0; index < sizeof rows / sizeof rows[0]; index++)
		if (wanted(rows[index].name, argc - 1, argv + 1))
			for (int step = 0, count = rows[index].first; step < STEPS; step++, count *= 10)
				measure_beside(&rows[index], count);
	say_end();
	return 0;
}
