/*
 * No sequence of calls leaves kernel memory behind: every system call with arguments of all kinds, and every file of /proc and
 * /sys and the paths below it, again and again, by many processes. What the kernel's heap holds (Slab) and what is free must
 * afterwards be what it was.
 *
 * usage: leaks [TIMES [GROUP]]
 * Each TIMES (100) times, the calls always as an ordinary user; of the groups all, or one by its number. Heaps breathe: stocks fill, caches come and go. So a thing is done
 * in rounds, and is fine as soon as one round ends less than 32 bytes a time, or two pages, above its beginning: what
 * leaks leaks in every round. Things are done in groups, which are taken apart only when one seems to leak.
 */
#include "hostile.h"
#include <dirent.h>
#include <ftw.h>
#include <grp.h>
#include <sys/uio.h>

enum { CALLS = 470, MOST_PATHS = 3000, ROUNDS = 8, WORKERS = 4, ARENA = 16 * 4096, AT_A_TIME = 24 };

static long times = 100, only = -1;
static char *paths[MOST_PATHS];
static int path_count;
static char *arena;
/* An address at which nothing is. */
static char *volatile hole = (char *)8;

/* What the progress of a worker is, so that one that killed itself is followed by one that goes on behind. */
static _Atomic long *done;

/* --- every path ---------------------------------------------------------------------------------------------------- */

static void visit(const char *path)
{
	char text[2048], below[400];
	struct stat status;

	lstat(path, &status);
	stat(path, &status);
	readlink(path, text, sizeof text);
	access(path, R_OK);
	int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (file >= 0) {
		/* The rest of a long file is like its beginning. */
		for (int i = 0; i < 3 && read(file, text, sizeof text) > 0; i++)
			;
		for (int i = 0; i < 3 && syscall(SYS_getdents64, file, text, sizeof text) > 0; i++)
			;
		close(file);
	}
	snprintf(below, sizeof below, "%s/absent", path);
	stat(below, &status);
}

/* All paths below one, but for those of other processes, which come and go, and where links lead. */
static void collect(const char *path, int depth)
{
	DIR *directory;
	struct dirent *entry;

	if (path_count == MOST_PATHS || depth > 6)
		return;
	paths[path_count++] = strdup(path);
	struct stat status;
	if (lstat(path, &status) || !S_ISDIR(status.st_mode) || !(directory = opendir(path)))
		return;
	while ((entry = readdir(directory))) {
		char below[300];

		if (entry->d_name[0] == '.')
			continue;
		if (strcmp(path, "/proc") == 0 && entry->d_name[0] >= '0' && entry->d_name[0] <= '9' && strcmp(entry->d_name, "1"))
			continue;
		if (snprintf(below, sizeof below, "%s/%s", path, entry->d_name) < (int)sizeof below)
			collect(below, depth + 1);
	}
	closedir(directory);
}

static void visit_some(long first, long last)
{
	for (long i = 0; i < times; i++)
		for (long path = first; path < last; path++)
			visit(paths[path]);
}

/* --- every call ---------------------------------------------------------------------------------------------------- */

static const char *const names[] = {
	"/", ".", "..", "", "/dev/null", "/dev/zero", "/proc/self/maps", "/proc/self/fd", "a", "b", "c", "c/d", "e/f", "link", "fifo",
	"/nowhere/at/all", "user.name", "security.name",
};

/* Calls that would only end what judges, or wait for what never comes. Those of processes are done in a way of their own. */
static int is_spared(long number)
{
	switch (number) {
	case SYS_exit: case SYS_exit_group: case SYS_fork: case SYS_vfork: case SYS_clone: case SYS_clone3: case SYS_execve:
	case SYS_execveat: case SYS_rt_sigreturn: case SYS_reboot: case SYS_kill: case SYS_tkill: case SYS_tgkill:
	case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo: case SYS_pidfd_send_signal: case SYS_vhangup:
	case SYS_rt_sigsuspend:
		return 1;
	}
	return 0;
}

static uint64_t argument(Random *random)
{
	static const uint64_t numbers[] = {
		0, 1, 2, 3, 4, 5, 8, 16, 24, 64, 100, 4096, 65536, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffe000,
		0x8000000000000000, ~0ul, -100ul /* AT_FDCWD */, 0xffff800000000000,
	};

	switch (random_below(random, 8)) {
	case 0: case 1: {
		char *place = arena + random_below(random, ARENA - 64);
		strcpy(place, names[random_below(random, COUNT(names))]);
		return (uintptr_t)place;
	}
	case 2: case 3:
		return (uintptr_t)arena + random_below(random, ARENA / 8) * 8;
	case 4:
		/* A descriptor: there are some of each kind. */
		return 3 + random_below(random, 12);
	case 5:
		/* Flags. */
		return random_next(random) & random_next(random) & random_next(random) & 0xfffff;
	default:
		return numbers[random_below(random, COUNT(numbers))];
	}
}

static void handle(int number)
{
	(void)number;
}

/* What calls spoil is made good before each. */
static void begin_again(int turn)
{
	struct sigaction action;
	struct itimerval soon = {{0, 1000}, {0, 1000}};
	sigset_t none;
	uint64_t *words = (uint64_t *)arena;

	memset(&action, 0, sizeof action);
	action.sa_handler = handle;
	sigemptyset(&none);
	sigaction(SIGALRM, &action, NULL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setitimer(ITIMER_REAL, &soon, NULL);
	if (turn % 64 == 0) {
		int ends[2];

		syscall(SYS_close_range, 3, ~0u, 0);
		open("/dev/null", O_RDWR);
		open("a", O_RDWR | O_CREAT, 0600);
		open(".", O_RDONLY | O_DIRECTORY);
		open("/proc/self/status", O_RDONLY);
		open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
		if (pipe2(ends, O_NONBLOCK) == 0)
			open("fifo", O_RDWR | O_NONBLOCK);
	}
	/* Small numbers, addresses and lengths: structures that make sense now and then. */
	for (int i = 0; i < 64; i++)
		words[i] = i % 3 == 0 ? (uint64_t)i % 7 : i % 3 == 1 ? (uintptr_t)arena + 512 * i : 64;
}

/* Makes the calls of a group from the progress on. A call may end the process: then another goes on. */
static void call_some(long first, long last)
{
	long numbers = last - first, all = times * numbers;

	while (*done < all) {
		long turn = atomic_fetch_add(done, 1), number = first + turn % numbers;
		Random random = random_from(turn * 1000003 + number);

		if (turn >= all || is_spared(number))
			continue;
		begin_again(turn / numbers);
		syscall(number, argument(&random), argument(&random), argument(&random), argument(&random), argument(&random),
			argument(&random));
	}
}

/* rt_sigsuspend, which with any mask might wait for ever. */
static void suspend_once(void)
{
	struct itimerval soon = {{0, 0}, {0, 1000}};
	sigset_t alarm, none;

	signal(SIGALRM, handle);
	sigemptyset(&none);
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm, NULL);
	setitimer(ITIMER_REAL, &soon, NULL);
	sigsuspend(&none);
	syscall(SYS_rt_sigsuspend, hole, 8);
	syscall(SYS_rt_sigsuspend, &none, 7);
}

/* The calls of processes. */
static void processes(void)
{
	char *const arguments[] = {"leaks", "--exit", NULL}, *const none[] = {NULL};
	const int kinds[] = {SIGURG, SIGCHLD, SIGRTMIN + 3};

	for (long i = 0; i < times / 10 + 1; i++) {
		pid_t child = fork();

		if (child == 0) {
			execve("/proc/self/exe", arguments, none);
			_exit(1);
		}
		waitpid(child, NULL, 0);
		child = vfork();
		if (child == 0)
			_exit(0);
		waitpid(child, NULL, 0);
		execve("/nowhere", arguments, none);
		execve("/proc/self/exe", (char *const *)hole, none);
		execve("/", arguments, none);
		for (size_t kind = 0; kind < COUNT(kinds); kind++) {
			union sigval value = {.sival_int = 1};
			sigset_t blocked;

			signal(kinds[kind], SIG_DFL);
			sigemptyset(&blocked);
			sigaddset(&blocked, kinds[kind]);
			sigprocmask(SIG_BLOCK, &blocked, NULL);
			sigqueue(getpid(), kinds[kind], value);
			kill(getpid(), kinds[kind]);
			struct timespec now = {0, 0};
			while (sigtimedwait(&blocked, NULL, &now) > 0)
				;
		}
		kill(99999999, 0);
		suspend_once();
	}
}

static void *nothing(void *argument)
{
	return argument;
}

static void threads(void)
{
	for (long i = 0; i < times / 10 + 1; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, nothing, NULL) == 0)
			pthread_join(thread, NULL);
	}
}

/* --- judging ------------------------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
	(void)status, (void)kind, (void)place;
	return remove(path);
}

/* A folder in which an ordinary user may do anything. */
static void make_room(void)
{
	char folder[64];
	int null = open("/dev/null", O_RDWR);

	/* What a call writes beyond its buffer hits nobody, nor what it prints. */
	arena = mmap(NULL, ARENA + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	arena += PAGE;
	if (mprotect(arena, ARENA, PROT_READ | PROT_WRITE))
		_exit(3);
	for (int descriptor = 0; descriptor < 3; descriptor++)
		dup2(null, descriptor);

	snprintf(folder, sizeof folder, "/tmp/leaks-%d", getpid());
	if (mkdir(folder, 0700) || chdir(folder))
		_exit(3);
	if (geteuid() == 0 && (chown(folder, 1000, 1000) || setgroups(0, NULL) || setgid(1000) || setuid(1000)))
		_exit(3);
	mkdir("c", 0700);
	mkdir("e", 0700);
	mkfifo("fifo", 0600);
	symlink("a", "link");
}

static void clear_room(pid_t process)
{
	char folder[64];

	snprintf(folder, sizeof folder, "/tmp/leaks-%d", process);
	/* As the superuser, whatever the modes are by now; else the modes are given back first. */
	if (geteuid() != 0)
		chmod(folder, 0700);
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* Ends the workers who wait for what never comes: in a call that blocks the signals it could be interrupted by. */
static void end_the_stuck(const pid_t *children)
{
	static long seen;

	if (*done == seen)
		for (int worker = 0; worker < WORKERS; worker++)
			if (children[worker] > 0)
				kill(children[worker], SIGKILL);
	seen = *done;
}

static void tick(void)
{
	struct sigaction action = {.sa_handler = handle};
	struct itimerval second = {{1, 0}, {1, 0}};

	/* Interrupts waitpid. */
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &second, NULL);
}

/* One round of work by several processes. */
static void work(void (*what)(long, long), long first, long last, int as_user)
{
	pid_t children[WORKERS];

	*done = 0;
	for (int worker = 0; worker < WORKERS; worker++)
		children[worker] = 0;
	for (int left = WORKERS; left > 0;) {
		for (int worker = 0; worker < WORKERS; worker++) {
			if (children[worker] != 0)
				continue;
			children[worker] = fork();
			if (children[worker] == 0) {
				struct rlimit none = {0, 0};

				setrlimit(RLIMIT_CORE, &none);
				setpgid(0, 0);
				if (as_user)
					make_room();
				what(first, last);
				_exit(0);
			}
		}
		int status = 0;
		pid_t ended = waitpid(-1, &status, 0);
		if (ended < 0 && errno == EINTR && as_user)
			end_the_stuck(children);
		for (int worker = 0; worker < WORKERS; worker++)
			if (ended > 0 && children[worker] == ended) {
				int is_over = !as_user || *done >= times * (last - first);

				children[worker] = is_over ? -1 : 0;
				left -= is_over;
				if (as_user)
					clear_room(ended);
				if (WIFEXITED(status) && WEXITSTATUS(status) == 3)
					wrong("a worker could not begin");
			}
	}
}

/* Whether work leaves nothing: see the page. Gives the least bytes a time that a round left. */
static long left_by(void (*what)(long, long), long first, long last, int as_user)
{
	long least = LONG_MAX, bytes_allowed = 32 * times;

	if (bytes_allowed < 2 * (long)PAGE)
		bytes_allowed = 2 * PAGE;
	for (int round = 0; round < ROUNDS; round++) {
		Memory before = memory_now();
		work(what, first, last, as_user);
		Memory after = memory_now();
		long slab = (after.slab - before.slab) * 1024, free = (before.free - after.free) * 1024;
		long left = slab > free ? slab : free;

		if (slab <= bytes_allowed && free <= bytes_allowed + 64 * (long)PAGE)
			return 0;
		if (left < least)
			least = left;
	}
	return least;
}

static void judge(const char *kind, void (*what)(long, long), long first, long last, int as_user)
{
	static long group;

	if (only >= 0 && only != group++)
		return;
	long left = left_by(what, first, last, as_user);

	printf("soak: %ld times a %s\n", times * (last - first) * (as_user ? 1 : WORKERS), kind);
	if (left == 0)
		return;
	/* Which of them? */
	for (long one = first; last - first > 1 && one < last; one++) {
		long its = left_by(what, one, one + 1, as_user);

		if (its > 0)
			wrong("%s %ld%s%s: %ld bytes stay in each round", kind, one, as_user ? "" : " ", as_user ? "" : paths[one], its);
	}
	wrong("%ss %ld to %ld: %ld bytes stay in each round", kind, first, last - 1, left);
}

static void alone(long first, long last)
{
	(void)first, (void)last;
	processes();
	threads();
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--exit") == 0)
		return 0;
	if (argc > 1)
		times = atol(argv[1]);
	done = shared_memory(PAGE);
	tick();
	collect("/proc", 0);
	collect("/sys", 0);
	if (argc > 2)
		only = atol(argv[2]) % (path_count / AT_A_TIME + CALLS / AT_A_TIME + 3);
	times = times / WORKERS > 0 ? times / WORKERS : 1;
	for (long path = 0; path < path_count; path += AT_A_TIME)
		judge("path", visit_some, path, path + AT_A_TIME < path_count ? path + AT_A_TIME : path_count, 0);
	times *= WORKERS;
	for (long number = 0; number < CALLS; number += AT_A_TIME)
		judge("call", call_some, number, number + AT_A_TIME < CALLS ? number + AT_A_TIME : CALLS, 1);
	judge("process", alone, 0, 1, 0);
	return verdict();
}
