/*
 * Of everything a program can have, very many; and what is done to all of them in one call. As `long` it judges nothing itself: the
 * watchdog measures how long each call kept its CPU (/proc/longest_polls), and the test looks at that.
 *
 * many [PART...]: all parts but those that take minutes, or these. With -v the longest polls are told after each.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define STACK 1024UL

static void must(int holds, const char *what)
{
	if (!holds) {
		printf("%s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static char *map(size_t length)
{
	char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	must(at != MAP_FAILED, "mmap");
	return at;
}

/* A child does `act`, and its status tells whether all went well. */
static void in_child(void (*act)(void))
{
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		act();
		_exit(0);
	}
	int status;
	must(child > 0 && waitpid(child, &status, 0) == child, "child");
	if (status != 0)
		printf("a child ended with %x\n", status);
	must(status == 0 || WIFSIGNALED(status), "status of a child");
}

static void read_whole(const char *path)
{
	static char buffer[65536];
	int file = open(path, O_RDONLY);
	must(file >= 0, path);
	ssize_t got;
	while ((got = read(file, buffer, sizeof(buffer))) > 0)
		;
	must(got == 0, path);
	close(file);
}

static long list(const char *path)
{
	static char entries[65536];
	int directory = open(path, O_RDONLY | O_DIRECTORY);
	must(directory >= 0, path);
	long total = 0, got;
	while ((got = syscall(SYS_getdents64, directory, entries, sizeof(entries))) > 0)
		total += got;
	must(got == 0, path);
	close(directory);
	return total;
}

static void look_at_proc(void)
{
	list("/proc");
	read_whole("/proc/stat");
	read_whole("/proc/loadavg");
	read_whole("/proc/meminfo");
	read_whole("/proc/self/status");
	read_whole("/proc/self/stat");
	read_whole("/proc/self/statm");
	read_whole("/proc/self/oom_score");
}

/* --- many of a task ------------------------------------------------------------------------------------------------ */

static char *stacks;
static int ends[2];

/* Children and threads with hardly any memory of their own: each has a little stack. They make calls, and nothing else. */
static long call(long number, long first, long second, long third, long fourth)
{
	long result;
	register long r10 __asm__("r10") = fourth;
	__asm__ volatile("syscall"
	                 : "=a"(result)
	                 : "a"(number), "D"(first), "S"(second), "d"(third), "r"(r10)
	                 : "rcx", "r11", "memory");
	return result;
}

static int waits(void *arg) { for (;;) call(SYS_pause, 0, 0, 0, 0); return arg != NULL; }
static int ends_at_once(void *arg) { call(SYS_exit, 0, 0, 0, 0); return arg != NULL; }
static int reads(void *arg)
{
	char byte;
	call(SYS_read, ends[0], (long)&byte, 1, 0);
	for (;;) call(SYS_pause, 0, 0, 0, 0);
	return arg != NULL;
}
static int polls(void *arg)
{
	struct pollfd entry = {ends[0], POLLIN, 0};
	call(SYS_poll, (long)&entry, 1, -1, 0);
	for (;;) call(SYS_pause, 0, 0, 0, 0);
	return arg != NULL;
}
static int sleeps(void *arg)
{
	struct timespec time = {1, 0};
	call(SYS_nanosleep, (long)&time, 0, 0, 0);
	for (;;) call(SYS_pause, 0, 0, 0, 0);
	return arg != NULL;
}
static int waits_for_children(void *arg)
{
	call(SYS_wait4, -1, 0, 0, 0);
	for (;;) call(SYS_pause, 0, 0, 0, 0);
	return arg != NULL;
}
static int locks_all(void *arg)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
	call(SYS_fcntl, ends[0], F_SETLKW, (long)&lock, 0);
	for (;;) call(SYS_pause, 0, 0, 0, 0);
	return arg != NULL;
}
static int flocks(void *arg)
{
	char name[] = "/tmp/many-lock";
	int file = call(SYS_open, (long)name, O_RDWR, 0, 0);
	call(SYS_flock, file, LOCK_EX, 0, 0);
	for (;;) call(SYS_pause, 0, 0, 0, 0);
	return arg != NULL;
}

/* Nearly as many as there are numbers. */
enum { TASKS = 32000 };
/* Children of children too are known to whoever ends them. */
static pid_t *pids;
static int made;

static pid_t *shared_pids(void)
{
	void *at = mmap(NULL, TASKS * sizeof(pid_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(at != MAP_FAILED, "mmap");
	return at;
}

static void start(int count, int flags, int (*act)(void *))
{
	if (!stacks)
		stacks = map(TASKS * STACK);
	if (!pids)
		pids = shared_pids();
	for (made = 0; made < count; made++) {
		pid_t pid = clone(act, stacks + (made + 1) * STACK, flags, NULL);
		if (pid < 0)
			break;
		pids[made] = pid;
	}
	must(made == count, "clone");
}

#define CHILD (CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD)
#define THREAD (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

static void reap(void)
{
	while (waitpid(-1, NULL, 0) > 0)
		;
}

static void let_run(void) { for (int i = 0; i < 3; i++) sched_yield(); usleep(10000); }

static void children_of_a_group(void)
{
	start(TASKS, CHILD, waits);
	for (int i = 0; i < made; i++)
		must(setpgid(pids[i], pids[0]) == 0, "setpgid");
	must(waitpid(-1, NULL, WNOHANG) == 0, "waitpid");
	must(waitpid(-pids[0], NULL, WNOHANG) == 0, "waitpid of a group");
	must(waitpid(pids[0], NULL, WNOHANG) == 0, "waitpid of one");
	errno = 0;
	getpriority(PRIO_PGRP, pids[0]);
	getpriority(PRIO_USER, 0);
	must(errno == 0, "getpriority");
	must(setpriority(PRIO_PGRP, pids[0], 1) == 0, "setpriority");
	look_at_proc();
	must(kill(-pids[0], SIGWINCH) == 0, "kill");
	must(kill(-pids[0], SIGSTOP) == 0, "kill");
	let_run();
	must(kill(-pids[0], SIGCONT) == 0, "kill");
	must(kill(-pids[0], SIGKILL) == 0, "kill");
	reap();
}

static void parent_of_a_stopped_group(void)
{
	start(TASKS, CHILD, waits);
	for (int i = 0; i < made; i++)
		must(setpgid(pids[i], pids[0]) == 0, "setpgid");
	must(kill(-pids[0], SIGSTOP) == 0, "kill");
	let_run();
}

static void parent_of_groups(void)
{
	start(TASKS, CHILD, waits);
	for (int i = 0; i < made; i++)
		must(setpgid(pids[i], 0) == 0, "setpgid");
	kill(pids[made - 1], SIGSTOP);
	let_run();
}

/* Waits until a process or thread is in this state. */
static void wait_for_state(const char *directory, pid_t pid, char state)
{
	char path[64], text[512];
	snprintf(path, sizeof(path), "%s/%d/stat", directory, pid);
	for (;;) {
		int file = open(path, O_RDONLY);
		must(file >= 0, path);
		ssize_t got = read(file, text, sizeof(text) - 1);
		close(file);
		must(got > 0, path);
		text[got] = 0;
		if (strrchr(text, ')')[2] == state)
			return;
		usleep(1000);
	}
}

static void wait_for_states(const char *directory, char state)
{
	for (int i = 0; i < made; i += made / 7)
		wait_for_state(directory, pids[i], state);
	wait_for_state(directory, pids[made - 1], state);
}

static void set_blocked(int how, int signal)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, signal);
	must(sigprocmask(how, &set, NULL) == 0, "sigprocmask");
}

/* A terminal sends all its signals to a foreground group of very many. */
static void leader_of_a_session(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	must(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0, "pty");
	must(setsid() > 0, "setsid");
	int slave = open(ptsname(master), O_RDWR);
	must(slave >= 0, "slave");
	set_blocked(SIG_BLOCK, SIGINT);
	start(TASKS, CHILD, waits);
	signal(SIGHUP, SIG_IGN);
	/* Nobody looks through all of them whenever one ends. */
	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < made; i++)
		must(setpgid(pids[i], pids[0]) == 0, "setpgid");
	must(ioctl(slave, TIOCSPGRP, pids) == 0, "TIOCSPGRP");
	struct winsize size = {10, 20, 0, 0};
	must(ioctl(master, TIOCSWINSZ, &size) == 0, "TIOCSWINSZ");
	must(write(master, "\003", 1) == 1, "Ctrl-C");
	must(write(master, "\032", 1) == 1, "Ctrl-Z");
	wait_for_states("/proc", 'T');
	must(kill(-pids[0], SIGCONT) == 0, "SIGCONT");
	wait_for_states("/proc", 'S');
	/* One after the other, so that none is stopped at last. */
	must(write(master, "\032", 1) == 1, "Ctrl-Z");
	must(kill(-pids[0], SIGCONT) == 0, "SIGCONT");
	sleep(1);
	wait_for_states("/proc", 'S');
	must(write(master, "\032", 1) == 1, "Ctrl-Z");
	close(master);
	while (kill(-pids[0], 0) == 0)
		usleep(100000);
	must(errno == ESRCH, "the end of all by SIGHUP");
}

static void sessions(void) { in_child(leader_of_a_session); }

static void parent_of_zombies(void) { start(TASKS, CHILD, ends_at_once); let_run(); }

/* What orphaned groups were. */
static void end_orphans(void)
{
	for (int i = 0; i < TASKS; i++)
		kill(pids[i], SIGKILL);
	reap();
}

static void processes(void)
{
	must(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "PR_SET_CHILD_SUBREAPER");
	pids = shared_pids();
	in_child(children_of_a_group);
	in_child(parent_of_a_stopped_group);
	end_orphans();
	in_child(parent_of_groups);
	end_orphans();
	in_child(parent_of_zombies);
	reap();
	start(TASKS, CHILD, ends_at_once);
	signal(SIGCHLD, SIG_IGN);
	reap();
	signal(SIGCHLD, SIG_DFL);
}

static void threads_that_stop(void)
{
	start(TASKS, THREAD, waits);
	signal(SIGUSR1, SIG_IGN);
	struct itimerval time = {{1000, 0}, {1000, 0}};
	must(setitimer(ITIMER_PROF, &time, NULL) == 0, "ITIMER_PROF");
	struct rusage usage;
	must(getrusage(RUSAGE_SELF, &usage) == 0, "getrusage");
	struct tms times_of;
	times(&times_of);
	look_at_proc();
	list("/proc/self/task");
	struct rlimit limit = {1000, 1000};
	must(setrlimit(RLIMIT_CPU, &limit) == 0, "RLIMIT_CPU");
	errno = 0;
	getpriority(PRIO_USER, 0);
	must(errno == 0, "getpriority");
	must(setpriority(PRIO_USER, 0, 0) == 0, "setpriority");
	pid_t self = getpid(), other = fork();
	if (other == 0) {
		kill(self, SIGWINCH);
		kill(self, SIGSTOP);
		usleep(20000);
		kill(self, SIGCONT);
		_exit(0);
	}
	must(waitpid(other, NULL, __WALL) == other, "waitpid");
	kill(self, SIGUSR1);
}

/* A child stops its parent and lets it go on. */
static void process_that_stops(void)
{
	start(TASKS, THREAD, waits);
	pid_t self = getpid(), other = fork();
	if (other == 0) {
		char tasks[64];
		snprintf(tasks, sizeof(tasks), "/proc/%d/task", self);
		kill(self, SIGSTOP);
		wait_for_states(tasks, 'T');
		kill(self, SIGCONT);
		wait_for_states(tasks, 'S');
		_exit(0);
	}
	must(waitpid(other, NULL, __WALL) == other, "waitpid");
}

static void stops(void) { in_child(process_that_stops); }

static void threads_and_exec(void)
{
	start(TASKS, THREAD, waits);
	execl("/proc/self/exe", "many", "nothing", NULL);
	_exit(1);
}

static void threads_that_are_killed(void)
{
	start(TASKS, THREAD, waits);
	kill(getpid(), SIGKILL);
}

static void threads_that_read(void)
{
	must(pipe(ends) == 0, "pipe");
	start(TASKS, THREAD, reads);
	let_run();
	close(ends[1]);
	let_run();
}

static void threads_that_poll(void)
{
	must(pipe(ends) == 0, "pipe");
	start(TASKS, THREAD, polls);
	let_run();
	write(ends[1], "x", 1);
	let_run();
}

static void threads_that_sleep(void) { start(TASKS, THREAD, sleeps); sleep(2); let_run(); }

static void threads_that_wait_for_children(void)
{
	pid_t child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	start(TASKS, THREAD, waits_for_children);
	let_run();
	kill(child, SIGKILL);
	let_run();
}

static void children_that_lock(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
	ends[0] = open("/tmp/many-lock", O_RDWR | O_CREAT, 0600);
	must(fcntl(ends[0], F_SETLK, &lock) == 0, "F_SETLK");
	start(TASKS, CHILD & ~CLONE_FILES, locks_all);
	let_run();
	lock.l_type = F_UNLCK;
	must(fcntl(ends[0], F_SETLK, &lock) == 0, "F_SETLK");
	let_run();
	for (int i = 0; i < made; i++)
		kill(pids[i], SIGKILL);
	reap();
}

static void children_that_flock(void)
{
	struct rlimit limit = {TASKS + 100, TASKS + 100};
	must(setrlimit(RLIMIT_NOFILE, &limit) == 0, "RLIMIT_NOFILE");
	int file = open("/tmp/many-lock", O_RDWR | O_CREAT, 0600);
	must(flock(file, LOCK_EX) == 0, "flock");
	start(TASKS, CHILD, flocks);
	let_run();
	must(flock(file, LOCK_UN) == 0, "flock");
	let_run();
	for (int i = 0; i < made; i++)
		kill(pids[i], SIGKILL);
	reap();
}

static void threads(void)
{
	in_child(threads_that_stop);
	in_child(threads_and_exec);
	in_child(threads_that_are_killed);
}

static void waiters(void)
{
	in_child(threads_that_read);
	in_child(threads_that_poll);
	in_child(threads_that_sleep);
	in_child(threads_that_wait_for_children);
	in_child(children_that_flock);
	in_child(children_that_lock);
}

/* --- many descriptors ---------------------------------------------------------------------------------------------- */

enum { DESCRIPTORS = 1 << 20 };

static void all_descriptors(void)
{
	struct rlimit limit = {DESCRIPTORS, DESCRIPTORS};
	must(setrlimit(RLIMIT_NOFILE, &limit) == 0, "RLIMIT_NOFILE");
	must(pipe(ends) == 0, "pipe");
	while (dup(ends[0]) >= 0)
		;
	must(errno == EMFILE, "dup");
	/* Some for those who look. */
	close_range(DESCRIPTORS - 10, ~0U, 0);
}

static void far_descriptor(void)
{
	struct rlimit limit = {DESCRIPTORS, DESCRIPTORS};
	must(setrlimit(RLIMIT_NOFILE, &limit) == 0, "RLIMIT_NOFILE");
	must(dup2(0, DESCRIPTORS - 1) == DESCRIPTORS - 1, "dup2");
}

static void nothing(void) {}

static struct pollfd *every_entry(void)
{
	struct pollfd *entries = (struct pollfd *)map(DESCRIPTORS * sizeof(*entries));
	for (int i = 0; i < DESCRIPTORS; i++)
		entries[i] = (struct pollfd){i < 3 || i == ends[1] || i >= DESCRIPTORS - 10 ? ends[0] : i, POLLIN, 0};
	return entries;
}

static void alarmed(int signal) { (void)signal; }

static void descriptors_polled(void)
{
	all_descriptors();
	struct pollfd *entries = every_entry();
	must(poll(entries, DESCRIPTORS, 0) == 0, "poll");
	must(poll(entries, DESCRIPTORS, 10) == 0, "poll that waits");
	struct sigaction action = {.sa_handler = alarmed};
	sigaction(SIGALRM, &action, NULL);
	struct itimerval time = {{0, 0}, {3, 0}};
	setitimer(ITIMER_REAL, &time, NULL);
	must(poll(entries, DESCRIPTORS, -1) == -1 && errno == EINTR, "poll that is interrupted");
}

static int writes_later(void *arg)
{
	struct timespec time = {3, 0};
	call(SYS_nanosleep, (long)&time, 0, 0, 0);
	call(SYS_write, ends[1], (long)"x", 1, 0);
	for (;;) call(SYS_pause, 0, 0, 0, 0);
	return arg != NULL;
}

static void descriptors_woken(void)
{
	all_descriptors();
	struct pollfd *entries = every_entry();
	start(1, THREAD, writes_later);
	must(poll(entries, DESCRIPTORS, -1) == DESCRIPTORS, "poll that is woken");
}

static void descriptors_selected(void)
{
	all_descriptors();
	unsigned char *sets = (unsigned char *)map(3 * DESCRIPTORS / 8);
	memset(sets, 255, 3 * DESCRIPTORS / 8);
	struct timeval time = {0, 0};
	fd_set *set[3];
	for (int i = 0; i < 3; i++) {
		set[i] = (fd_set *)(sets + i * DESCRIPTORS / 8);
		sets[i * DESCRIPTORS / 8] = 0;
	}
	select(DESCRIPTORS, set[0], NULL, NULL, &time);
	memset(sets + 1, 255, DESCRIPTORS / 8 - 1);
	time.tv_usec = 10000;
	select(DESCRIPTORS, set[0], NULL, NULL, &time);
	memset(sets + 1, 255, DESCRIPTORS / 8 - 1);
	time.tv_usec = 10000;
	select(DESCRIPTORS, NULL, NULL, set[0], &time);
}

static void descriptors_and_exec(void)
{
	all_descriptors();
	must(close_range(10, ~0U, CLOSE_RANGE_CLOEXEC) == 0, "CLOSE_RANGE_CLOEXEC");
	execl("/proc/self/exe", "many", "nothing", NULL);
	_exit(1);
}

static int unshares(void *arg)
{
	call(SYS_close_range, 100, ~0U, CLOSE_RANGE_UNSHARE, 0);
	call(SYS_exit, 0, 0, 0, 0);
	return arg != NULL;
}
static int executes(void *arg)
{
	char name[] = "/proc/self/exe", argument[] = "nothing";
	char *arguments[] = {argument, argument, NULL};
	call(SYS_execve, (long)name, (long)arguments, (long)(arguments + 2), 0);
	call(SYS_exit, 1, 0, 0, 0);
	return arg != NULL;
}

static void descriptors_that_stay(void)
{
	all_descriptors();
	in_child(nothing);
	list("/proc/self/fd");
	read_whole("/proc/self/status");
	start(1, CHILD, unshares);
	reap();
	start(1, CHILD, executes);
	reap();
	must(close_range(100, ~0U, CLOSE_RANGE_UNSHARE) == 0, "CLOSE_RANGE_UNSHARE");
}

static void descriptors(void)
{
	in_child(far_descriptor);
	in_child(descriptors_that_stay);
	in_child(descriptors_and_exec);
}
static void polled(void)
{
	in_child(descriptors_polled);
	in_child(descriptors_woken);
}
static void selected(void) { in_child(descriptors_selected); }

/* --- much memory --------------------------------------------------------------------------------------------------- */

enum { AREAS = 65000 };

static void lock_much(void)
{
	struct rlimit everything = {RLIM_INFINITY, RLIM_INFINITY};
	must(setrlimit(RLIMIT_MEMLOCK, &everything) == 0, "RLIMIT_MEMLOCK");
}

static void use_areas(char *at, size_t length)
{
	static unsigned char resident[AREAS];
	must(mincore(at, length, resident) == 0, "mincore");
	must(msync(at, length, MS_SYNC) == 0, "msync");
	must(madvise(at, length, MADV_WILLNEED) == 0, "MADV_WILLNEED");
	must(madvise(at, length, MADV_DONTNEED) == 0, "MADV_DONTNEED");
	madvise(at, length, MADV_POPULATE_READ);
	must(mlock2(at, length, MLOCK_ONFAULT) == 0, "mlock2");
	must(munlock(at, length) == 0, "munlock");
	must(madvise(at, length, MADV_DONTFORK) == 0, "MADV_DONTFORK");
	must(madvise(at, length, MADV_DOFORK) == 0, "MADV_DOFORK");
	in_child(nothing);
	read_whole("/proc/self/maps");
	read_whole("/proc/self/smaps_rollup");
	look_at_proc();
	must(mlockall(MCL_CURRENT | MCL_ONFAULT) == 0, "mlockall");
	must(munlockall() == 0, "munlockall");
}

static void areas_of_nothing(void)
{
	size_t length = AREAS * PAGE;
	char *at = map(length);
	for (size_t page = 0; page < length; page += 2 * PAGE)
		must(mprotect(at + page, PAGE, PROT_READ) == 0, "mprotect of a page");
	use_areas(at, length);
	must(mprotect(at, length, PROT_READ) == 0, "mprotect of all");
	for (size_t page = 0; page < length; page += 2 * PAGE)
		must(mprotect(at + page, PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect of a page");
	char *there = map(length);
	must(mmap(there, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == there, "MAP_FIXED");
	must(mmap(at, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at, "MAP_FIXED over all");
	for (size_t page = 0; page < length; page += 2 * PAGE)
		must(mprotect(at + page, PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect of a page");
	must(munmap(at, length) == 0, "munmap of all");
}

static int mapped_file(size_t length)
{
	int file = open("/tmp/many-mapped", O_RDWR | O_CREAT, 0600);
	must(file >= 0 && ftruncate(file, length) == 0, "file");
	return file;
}

static char *areas_of(int file, int other)
{
	size_t length = AREAS * PAGE;
	char *at = map(length);
	for (size_t page = 0; page < AREAS; page++)
		must(mmap(at + page * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		          page % 2 ? file : other, 0) != MAP_FAILED, "mmap of a file");
	return at;
}

static void areas_of_a_page(void)
{
	int file = mapped_file(2 * PAGE);
	char *at = areas_of(file, file);
	for (size_t page = 0; page < AREAS; page++)
		at[page * PAGE] = 1;
	use_areas(at, AREAS * PAGE);
	for (size_t page = 0; page < AREAS; page++)
		at[page * PAGE] = 1;
	must(ftruncate(file, 0) == 0, "truncate");
	must(ftruncate(file, PAGE) == 0, "truncate");
	for (size_t page = 0; page < AREAS; page++)
		at[page * PAGE] = 1;
	fsync(file);
	sync();
	unlink("/tmp/many-mapped");
}

static void sparse(void)
{
	size_t length = 32UL << 40;
	char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	must(at != MAP_FAILED, "mmap of 32 TiB");
	for (size_t i = 0; i < length; i += 16UL << 30)
		at[i] = 1;
	static unsigned char resident[1 << 20];
	must(mincore(at, sizeof(resident) * PAGE, resident) == 0, "mincore");
	must(mprotect(at, length, PROT_READ) == 0, "mprotect");
	must(mprotect(at, length, PROT_READ | PROT_WRITE) == 0, "mprotect");
	must(msync(at, length, MS_SYNC) == 0, "msync");
	must(mlock2(at, length, MLOCK_ONFAULT) == 0, "mlock2");
	must(munlock(at, length) == 0, "munlock");
	madvise(at, length, MADV_WILLNEED);
	madvise(at, length, MADV_COLD);
	madvise(at, length, MADV_FREE);
	in_child(nothing);
	look_at_proc();
	read_whole("/proc/self/smaps_rollup");
	char *moved = mremap(at, length, length + PAGE, MREMAP_MAYMOVE);
	must(moved != MAP_FAILED, "mremap");
	must(madvise(moved, length, MADV_DONTNEED) == 0, "MADV_DONTNEED");
	for (size_t i = 0; i < length; i += 16UL << 30)
		moved[i] = 1;
	must(munmap(moved, length + PAGE) == 0, "munmap");
}

static void resident_file(void)
{
	size_t length = 256UL << 20;
	int file = mapped_file(length);
	char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
	must(at != MAP_FAILED, "mmap");
	memset(at, 1, length);
	look_at_proc();
	read_whole("/proc/self/smaps");
	in_child(look_at_proc);
	must(msync(at, length, MS_SYNC) == 0, "msync");
	must(madvise(at, length, MADV_DONTNEED) == 0, "MADV_DONTNEED");
	close(file);
	unlink("/tmp/many-mapped");
}

static void memory(void)
{
	lock_much();
	in_child(areas_of_nothing);
	in_child(areas_of_a_page);
	in_child(sparse);
	in_child(resident_file);
}

/* A file of 8 TiB with a page here and there. */
static void holes(void)
{
	int file = open("/tmp/many-holes", O_RDWR | O_CREAT, 0600);
	must(file >= 0, "open");
	off_t end = 8L << 40, step = 1L << 30;
	for (off_t at = 0; at < end; at += step)
		must(pwrite(file, "x", 1, at) == 1, "pwrite");
	must(ftruncate(file, 1L << 62) == 0, "ftruncate");
	lseek(file, end, SEEK_DATA);
	lseek(file, PAGE, SEEK_DATA);
	lseek(file, 0, SEEK_HOLE);
	must(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, 1L << 61) == 0, "punch");
	fdatasync(file);
	posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
	readahead(file, 0, 1L << 40);
	static char buffer[1 << 20];
	must(pread(file, buffer, sizeof(buffer), 1L << 50) == sizeof(buffer), "pread of a hole");
	must(ftruncate(file, 0) == 0, "ftruncate");
	for (int i = 0; i < 60000; i++)
		must(pwrite(file, "x", 1, i * 2 * PAGE) == 1, "pwrite");
	lseek(file, PAGE, SEEK_DATA);
	must(fallocate(file, 0, 0, 120000 * PAGE) == 0, "fallocate");
	must(lseek(file, 5, SEEK_HOLE) == 120000 * PAGE, "SEEK_HOLE");
	must(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 110000 * PAGE, PAGE) == 0, "punch");
	must(lseek(file, 5, SEEK_HOLE) == 110000 * PAGE, "SEEK_HOLE");
	close(file);
	unlink("/tmp/many-holes");
}

/* --- many locks ---------------------------------------------------------------------------------------------------- */

static int set_lock(int file, int command, int type, off_t first, off_t length)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = first, .l_len = length};
	return fcntl(file, command, &lock);
}

static void ranges(int command)
{
	enum { RANGES = 5000 };
	int file = open("/tmp/many-lock", O_RDWR | O_CREAT, 0600);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < RANGES; i++)
			must(set_lock(file, command, i % 4 ? F_WRLCK : F_RDLCK, 2 * i, 1) == 0, "lock");
		int other = open("/tmp/many-lock", O_RDWR);
		struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2 * RANGES, .l_len = 10};
		must(fcntl(other, F_OFD_GETLK, &lock) == 0, "F_GETLK");
		if (command == F_SETLK)
			dup2(file, file), close(dup(other)), close(other);
		else
			close(other);
		if (command == F_SETLK)
			continue;
		if (round == 0)
			must(set_lock(file, command, F_WRLCK, 0, 0) == 0, "lock of all");
		if (round == 1)
			must(set_lock(file, command, F_UNLCK, 1, 0) == 0, "unlock of all");
	}
	if (command == F_SETLK) {
		for (int i = 0; i < RANGES; i++)
			must(set_lock(file, command, F_WRLCK, 2 * i, 1) == 0, "lock");
		must(set_lock(file, command, F_RDLCK, 0, 0) == 0, "lock of all");
		for (int i = 0; i < RANGES; i++)
			must(set_lock(file, command, F_WRLCK, 2 * i, 1) == 0, "lock");
	}
	close(file);
}

/* Very many of one owner, some of another between them; taken, changed and given back one by one, all together, and by closing. */
static void very_many_ranges(void)
{
	enum { RANGES = 300000, OTHERS = 20000 };
	int mine = open("/tmp/many-lock", O_RDWR | O_CREAT, 0600), theirs = open("/tmp/many-lock", O_RDWR);
	for (int i = 0; i < RANGES; i++) {
		/* From both ends to the middle. */
		int at = i % 2 ? RANGES - i : i;
		must(set_lock(mine, F_OFD_SETLK, F_RDLCK, 4L * at, 1) == 0, "lock");
		if (i % (RANGES / OTHERS) == 0)
			must(set_lock(theirs, F_OFD_SETLK, F_WRLCK, 4L * at + 2, 1) == 0, "lock of another");
	}
	must(set_lock(mine, F_OFD_SETLK, F_WRLCK, 0, 0) == -1 && errno == EAGAIN, "lock of all");
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 4L * RANGES, .l_len = 10};
	must(fcntl(mine, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK, "F_OFD_GETLK");
	must(set_lock(mine, F_OFD_SETLK, F_UNLCK, 0, RANGES) == 0, "unlock of many");
	close(theirs);
	must(set_lock(mine, F_OFD_SETLK, F_WRLCK, 4L * RANGES / 2, 0) == 0, "lock of half");
	close(mine);
	mine = open("/tmp/many-lock", O_RDWR);
	for (int i = 0; i < RANGES / 3; i++)
		must(set_lock(mine, F_SETLK, F_WRLCK, 2L * i, 1) == 0, "lock of the process");
	dup2(0, mine);
	close(mine);
}

static void locks(void)
{
	in_child(very_many_ranges);
	ranges(F_SETLK);
	ranges(F_OFD_SETLK);
	unlink("/tmp/many-lock");
}

/* --- many names ---------------------------------------------------------------------------------------------------- */

enum { NAMES = 100000, DEEP = 5000 };

static void wide(void)
{
	char name[64];
	must(mkdir("/tmp/many", 0700) == 0 && mount("many", "/tmp/many", "tmpfs", 0, NULL) == 0, "mount");
	must(chdir("/tmp/many") == 0, "chdir");
	close(open("one", O_CREAT | O_WRONLY, 0600));
	for (int i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "link%d", i);
		must(link("one", name) == 0, "link");
	}
	list(".");
	int directory = open(".", O_RDONLY | O_DIRECTORY);
	must(lseek(directory, NAMES / 2, SEEK_SET) >= 0, "lseek");
	static char entries[4096];
	syscall(SYS_getdents64, directory, entries, sizeof(entries));
	close(directory);
	must(mkdir("other", 0700) == 0 && rename("link5", "other/link") == 0, "rename");
	must(rmdir("other") == -1, "rmdir");
	look_at_proc();
	sync();
	for (int i = 0; i < NAMES / 2; i++) {
		snprintf(name, sizeof(name), "link%d", i);
		unlink(name);
	}
	list(".");
	chdir("/");
	must(umount("/tmp/many") == 0 && rmdir("/tmp/many") == 0, "umount");
}

static void deep(void)
{
	static char path[1 << 20];
	must(mkdir("/tmp/deep", 0700) == 0 && mount("deep", "/tmp/deep", "tmpfs", 0, NULL) == 0, "mount");
	must(chdir("/tmp/deep") == 0, "chdir");
	for (int i = 0; i < DEEP; i++)
		must(mkdir("d", 0700) == 0 && chdir("d") == 0, "mkdir");
	syscall(SYS_getcwd, path, sizeof(path));
	int here = open(".", O_RDONLY);
	must(mkdir("e", 0700) == 0 && mkdir("/tmp/deep/f", 0700) == 0, "mkdir");
	must(rename("e", "/tmp/deep/f/e") == 0, "rename");
	must(rename("/tmp/deep/d", "e") == -1, "rename into itself");
	char link[64];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", here);
	readlink(link, path, sizeof(path));
	mount("deep", ".", "tmpfs", 0, NULL);
	read_whole("/proc/mounts");
	read_whole("/proc/self/mountinfo");
	read_whole("/proc/self/maps");
	umount2(".", MNT_DETACH);
	chdir("..");
	umount2("d", MNT_DETACH);
	close(here);
	chdir("/");
	must(umount2("/tmp/deep", MNT_DETACH) == 0 && rmdir("/tmp/deep") == 0, "umount");
}

/* Forty links `name`0 to `name`39, each as long as it may be, full of `step`; the last leads to the directory itself. */
static void chain(char name, const char *step)
{
	static char path[4096];
	char link[16];
	size_t length = 0;
	while (length + strlen(step) < sizeof(path) - 8)
		length += sprintf(path + length, "%s", step);
	for (int i = 0; i < 40; i++) {
		if (i < 39)
			sprintf(path + length, "%c%d", name, i + 1);
		else
			sprintf(path + length, ".");
		sprintf(link, "%c%d", name, i);
		must(symlink(path, link) == 0, "symlink");
	}
}

static void unchain(char name)
{
	char link[16];
	for (int i = 0; i < 40; i++) {
		sprintf(link, "%c%d", name, i);
		unlink(link);
	}
}

static void walk(const char *link)
{
	char inside[32], other[32];
	struct stat status;
	must(stat(link, &status) == 0, "stat through links");
	int file = open(link, O_RDONLY);
	must(file >= 0, "open through links");
	close(file);
	must(access(link, R_OK) == 0, "access");
	sprintf(inside, "%s/b", link);
	sprintf(other, "%s/c", link);
	must(mkdir(inside, 0700) == 0, "mkdir");
	must(mount("none", inside, "tmpfs", 0, NULL) == 0 && umount2(inside, 0) == 0, "mount");
	must(mount(link, inside, NULL, MS_BIND, NULL) == 0 && umount2(inside, 0) == 0, "mount --bind");
	must(rename(inside, other) == 0 && rmdir(other) == 0, "rename");
	must(execl(link, "x", NULL) == -1 && errno == EACCES, "execve");
}

static char flipping[32] = "f0";

_Noreturn static void *flip(void *unused)
{
	(void)unused;
	for (;;)
		((volatile char *)flipping)[2] ^= '/';
}

/* A path that another thread exchanges all the time: its resolution must have an end. */
static void flipped(void)
{
	pid_t child = fork();
	if (child == 0) {
		pthread_t thread;
		struct stat status;
		pthread_create(&thread, NULL, flip, NULL);
		for (int i = 0; i < 20; i++)
			stat(flipping, &status);
		_exit(0);
	}
	int status;
	must(waitpid(child, &status, 0) == child && status == 0, "stat of a path that changes");
}

/* Forty links, each to thousands of steps, in files that are kept and in files that are made at each look. */
static void far(void)
{
	must(mkdir("/tmp/far", 0700) == 0 && chdir("/tmp/far") == 0 && mkdir("a", 0700) == 0, "mkdir");
	chain('f', "a/../");
	chain('d', "./");
	chain('p', "../../proc/1/task/../task/../../../tmp/far/");
	walk("f0");
	walk("d0");
	walk("p0");
	flipped();
	unchain('f');
	unchain('d');
	unchain('p');
	rmdir("a");
	chdir("/");
	must(rmdir("/tmp/far") == 0, "rmdir");
}

static void attributes(void)
{
	static char names[1 << 20], value[1024];
	char name[64];
	int file = open("/tmp/many-attributes", O_RDWR | O_CREAT, 0600), i;
	for (i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "trusted.%d", i);
		if (fsetxattr(file, name, value, 16, 0) != 0)
			break;
	}
	flistxattr(file, names, sizeof(names));
	fgetxattr(file, name, value, sizeof(value));
	close(file);
	unlink("/tmp/many-attributes");
}

static void names(void)
{
	wide();
	deep();
	far();
	attributes();
}

/* A tree of very many: a directory bound below itself again and again, each time with all that is there. */
static void mount_trees(void)
{
	char name[64];
	must(mkdir("/tmp/tree", 0700) == 0 && mount("m", "/tmp/tree", "tmpfs", 0, NULL) == 0, "mount");
	must(mkdir("/tmp/tree/0", 0700) == 0 && mount("m", "/tmp/tree/0", "tmpfs", 0, NULL) == 0, "mount");
	int rounds = 0;
	for (; rounds < 14; rounds++) {
		snprintf(name, sizeof(name), "/tmp/tree/%d", rounds + 1);
		must(mkdir(name, 0700) == 0, "mkdir");
		must(mount("/tmp/tree", name, NULL, MS_BIND | MS_REC, NULL) == 0, "MS_BIND | MS_REC");
	}
	must(mkdir("/tmp/too-many", 0700) == 0, "mkdir");
	for (int more = 0; more < 4; more++)
		if (mount("/tmp/tree", "/tmp/too-many", NULL, MS_BIND | MS_REC, NULL) != 0)
			must(errno == ENOSPC, "too many mounts");
	struct stat status;
	snprintf(name, sizeof(name), "/tmp/tree/%d/1/0", rounds);
	must(stat(name, &status) == 0, name);
	int above = 0;
	while (umount2("/tmp/too-many", MNT_DETACH) == 0)
		above++;
	must(above == 2, "MNT_DETACH of what was bound one above the other");
	must(umount2("/tmp/tree", MNT_DETACH) == 0, "MNT_DETACH");
	rmdir("/tmp/too-many");
	rmdir("/tmp/tree");
}

static void mounts(void)
{
	in_child(mount_trees);
	enum { MOUNTS = 5000 };
	char name[64];
	must(mkdir("/tmp/mounts", 0700) == 0 && mount("m", "/tmp/mounts", "tmpfs", 0, NULL) == 0, "mount");
	int i;
	for (i = 0; i < MOUNTS; i++) {
		snprintf(name, sizeof(name), "/tmp/mounts/%d", i);
		mkdir(name, 0700);
		if (mount("m", name, "tmpfs", 0, NULL) != 0)
			break;
	}
	must(i == MOUNTS, "mount");
	read_whole("/proc/mounts");
	read_whole("/proc/self/mountinfo");
	read_whole("/proc/self/mountstats");
	look_at_proc();
	sync();
	mkdir("/tmp/bound", 0700);
	mount("/tmp/mounts", "/tmp/bound", NULL, MS_BIND, NULL);
	mount(NULL, "/tmp/mounts", NULL, MS_REC | MS_PRIVATE, NULL);
	umount2("/tmp/bound", MNT_DETACH);
	must(umount2("/tmp/mounts/1", 0) == 0, "umount");
	umount2("/tmp/mounts", MNT_EXPIRE);
	must(umount2("/tmp/mounts", MNT_DETACH) == 0, "MNT_DETACH");
	rmdir("/tmp/mounts");
	rmdir("/tmp/bound");
	/* One above the other. */
	must(mkdir("/tmp/mounts", 0700) == 0, "mkdir");
	for (i = 0; i < MOUNTS; i++)
		must(mount("m", "/tmp/mounts", "tmpfs", 0, NULL) == 0, "mount");
	read_whole("/proc/mounts");
	read_whole("/proc/self/mountinfo");
	struct stat status;
	must(stat("/tmp/mounts", &status) == 0, "stat");
	for (i = 0; i < MOUNTS; i++)
		must(umount2("/tmp/mounts", 0) == 0, "umount");
	rmdir("/tmp/mounts");
}

/* --- and the rest -------------------------------------------------------------------------------------------------- */

enum { QUEUED = 100000 };

static void queue(int signal)
{
	struct rlimit limit = {QUEUED, QUEUED};
	must(setrlimit(RLIMIT_SIGPENDING, &limit) == 0, "RLIMIT_SIGPENDING");
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	for (int i = 0; i < QUEUED; i++)
		must(sigqueue(getpid(), signal, (union sigval){.sival_int = i}) == 0, "sigqueue");
}

static void queued_and_ignored(void) { queue(40); signal(40, SIG_IGN); }
static void queued_and_over(void)
{
	queue(40);
	siginfo_t information;
	sigset_t other;
	sigemptyset(&other);
	sigaddset(&other, 41);
	struct timespec time = {0, 0};
	sigtimedwait(&other, &information, &time);
}
static void queued_and_exec(void) { queue(40); execl("/proc/self/exe", "many", "nothing", NULL); _exit(1); }

static void signals(void)
{
	in_child(queued_and_ignored);
	in_child(queued_and_over);
	in_child(queued_and_exec);
}

static char **many_arguments(size_t count, char *argument)
{
	char **all = (char **)map((count + 3) * sizeof(*all));
	all[0] = "many", all[1] = "nothing";
	for (size_t i = 2; i < count; i++)
		all[i] = argument;
	return all;
}

static void arguments_short(void)
{
	struct rlimit limit = {64UL << 20, RLIM_INFINITY};
	setrlimit(RLIMIT_STACK, &limit);
	char **all = many_arguments(600000, "");
	execv("/proc/self/exe", all);
	_exit(errno != E2BIG);
}
static void arguments_too_many(void)
{
	char **all = many_arguments(3 << 20, "");
	execv("/proc/self/exe", all);
	_exit(errno != E2BIG);
}
static void arguments(void)
{
	in_child(arguments_short);
	in_child(arguments_too_many);
}

static void pieces(void)
{
	static char buffer[1 << 20];
	struct iovec pieces[1024];
	for (int i = 0; i < 1024; i++)
		pieces[i] = (struct iovec){buffer + i * 1024, 1024};
	int zero = open("/dev/zero", O_RDONLY), file = open("/tmp/many-file", O_RDWR | O_CREAT, 0600);
	must(readv(zero, pieces, 1024) == sizeof(buffer), "readv");
	for (int i = 0; i < 1024; i++)
		pieces[i].iov_len = 1;
	must(readv(zero, pieces, 1024) == 1024, "readv");
	must(writev(file, pieces, 1024) == 1024, "writev");
	for (int i = 0; i < 1024; i++)
		pieces[i].iov_len = 0;
	must(writev(file, pieces, 1024) == 0, "writev");
	struct rlimit limit = {DESCRIPTORS, DESCRIPTORS};
	must(setrlimit(RLIMIT_NOFILE, &limit) == 0, "RLIMIT_NOFILE");
	for (int i = 0; i < 50; i++) {
		must(pipe(ends) == 0, "pipe");
		if (fcntl(ends[1], F_SETPIPE_SZ, 1 << 20) < 0)
			break;
		must(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0, "F_SETFL");
		write(ends[1], buffer, sizeof(buffer));
		fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
	}
	close_range(3, ~0U, 0);
	unlink("/tmp/many-file");
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	must(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0, "pty");
	int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	must(slave >= 0, "slave");
	fcntl(master, F_SETFL, O_NONBLOCK);
	fcntl(slave, F_SETFL, O_NONBLOCK);
	memset(buffer, '\t', sizeof(buffer));
	for (int i = 0; i < 4; i++)
		write(master, buffer, sizeof(buffer)), write(slave, buffer, sizeof(buffer)), read(master, buffer + 1, 65536);
	memset(buffer, 23, sizeof(buffer));
	write(master, buffer, sizeof(buffer));
	close(master), close(slave);
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	if (log >= 0)
		close(log);
	syscall(SYS_syslog, 3, buffer, sizeof(buffer));
}

static const struct {
	const char *name;
	void (*act)(void);
	/* Only when it is named. */
	int slow;
} PARTS[] = {
	{"descriptors", descriptors, 0}, {"polled", polled, 0},       {"selected", selected, 0}, {"memory", memory, 0},
	{"holes", holes, 0},             {"locks", locks, 0},         {"names", names, 0},       {"mounts", mounts, 0},
	{"signals", signals, 0},         {"arguments", arguments, 0}, {"pieces", pieces, 0},     {"processes", processes, 1},
	{"sessions", sessions, 0},       {"stops", stops, 0},         {"threads", threads, 1},   {"waiters", waiters, 1},
};

static void tell(const char *name)
{
	static char before[65536], now[65536];
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	printf("== %s, at %ld.%03ld\n", name, (long)time.tv_sec, time.tv_nsec / 1000000);
	FILE *file = fopen("/proc/longest_polls", "r");
	char line[256];
	now[0] = 0;
	while (file && fgets(line, sizeof(line), file)) {
		if (!strstr(before, line))
			printf("   %s", line);
		strcat(now, line);
	}
	if (file)
		fclose(file);
	strcpy(before, now);
	fflush(stdout);
}

int main(int count, char **given)
{
	if (count > 1 && strcmp(given[1], "nothing") == 0)
		return 0;
	int loud = count > 1 && strcmp(given[1], "-v") == 0;
	for (size_t part = 0; part < sizeof(PARTS) / sizeof(PARTS[0]); part++) {
		int wanted = count == 1 + loud && !PARTS[part].slow;
		for (int i = 1 + loud; i < count; i++)
			wanted |= strcmp(given[i], PARTS[part].name) == 0;
		if (!wanted)
			continue;
		in_child(PARTS[part].act);
		if (loud)
			tell(PARTS[part].name);
	}
	puts("ok");
	return 0;
}
