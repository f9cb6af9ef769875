/*
 * Takes all there is of something: memory, descriptors, processes, room on a file system, the kernel's own memory. Each
 * ends with an error, or with the end of the greedy program, and everything can be had again.
 *
 * usage: shortage [PART]
 * PART: eater, eaters, sleeper (holds memory and sleeps), tables (page tables), pipes, files, names, threads, areas,
 * queues, arguments, locks, or all.
 */
#include "hostile.h"
#include <sys/mount.h>
#include <sys/statfs.h>

/* Runs something greedy in a child. It may end by itself (0) or be killed for want of memory. */
static int greedy(const char *name, void (*what)(void))
{
	pid_t child = fork();

	if (child == 0) {
		struct rlimit files = {200000, 200000};

		setrlimit(RLIMIT_NOFILE, &files);
		what();
		_exit(0);
	}
	int status = -1;
	MUST(child > 0 && waitpid(child, &status, 0) == child);
	if (!(WIFEXITED(status) && WEXITSTATUS(status) == 0) && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
		wrong("%s: status %#x", name, status);
	return WIFSIGNALED(status);
}

static void check(const char *name, void (*what)(void))
{
	Memory before = memory_now();
	int was_killed = greedy(name, what);

	printf("%s: %s\n", name, was_killed ? "killed" : "ended by itself");
	/* The kernel may keep room for as many threads as there were. */
	memory_is_back(name, before, 4096);
	/* The system still works. */
	pid_t child = fork();
	if (child == 0)
		_exit(5);
	int status = 0;
	MUST(child > 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5);
}

static void eat(void)
{
	for (;;) {
		char *memory = mmap(NULL, 1 << 22, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (memory == MAP_FAILED)
			return;
		for (size_t i = 0; i < 1 << 22; i += PAGE)
			memory[i] = 1;
	}
}

static void eater(void)
{
	check("eater", eat);
}

static void eat_together(void)
{
	for (int i = 0; i < 3; i++)
		if (fork() == 0) {
			eat();
			_exit(0);
		}
	collect_all();
}

static void eaters(void)
{
	check("eaters", eat_together);
}

/* One has nearly everything and sleeps; others, who need a little, do not die for it. */
static void sleeper(void)
{
	int gate[2];
	char token;

	MUST(pipe(gate) == 0);
	pid_t child = fork();
	if (child == 0) {
		size_t free = memory_row("MemFree:") * 1024ul;
		size_t size = (free - (free >> 4)) & ~(PAGE - 1);
		char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		for (size_t i = 0; i < size; i += PAGE)
			memory[i] = 1;
		if (write(gate[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	MUST(read(gate[0], &token, 1) == 1);
	pid_t other = fork();
	if (other == 0) {
		size_t size = memory_row("MemFree:") * 1024ul + (4 << 20);
		char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		for (size_t i = 0; i < size; i += PAGE)
			memory[i] = 1;
		_exit(0);
	}
	int status = -1;
	if (MUST(other > 0 && waitpid(other, &status, 0) == other) && status != 0)
		wrong("the wrong one was killed: status %#x", status);
	MUST(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(gate[0]);
	close(gate[1]);
}

/* A page here and there: what is large are the page tables. */
static void eat_tables(void)
{
	const size_t size = 1ul << 45;
	volatile char *memory = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return;
	for (size_t i = 0; i < size; i += 1 << 21)
		(void)memory[i];
}

static void tables(void)
{
	check("tables", eat_tables);
}

static void eat_pipes(void)
{
	static char bytes[1 << 16];
	int ends[2];

	while (pipe(ends) == 0) {
		fcntl(ends[1], F_SETFL, O_NONBLOCK);
		if (write(ends[1], bytes, sizeof bytes) < 0 && errno != EAGAIN)
			return;
	}
}

static void pipes(void)
{
	check("pipes", eat_pipes);
}

/* A full file system says so, and is empty again afterwards. */
static void files(void)
{
	static char bytes[1 << 16];
	struct statfs before, after;

	MUST(mkdir("/tmp/full", 0755) == 0);
	MUST(mount("none", "/tmp/full", "tmpfs", 0, "size=8m,nr_inodes=500") == 0);
	MUST(statfs("/tmp/full", &before) == 0);
	for (int round = 0; round < 3; round++) {
		int file = open("/tmp/full/large", O_RDWR | O_CREAT, 0600);
		ssize_t sum = 0, got;

		MUST(file >= 0);
		while ((got = write(file, bytes, sizeof bytes)) > 0)
			sum += got;
		MUST(errno == ENOSPC || errno == 0);
		FAILS(write(file, bytes, 1), ENOSPC);
		MUST(sum == 8 << 20);
		MUST(ftruncate(file, 100) == 0 && write(file, bytes, 1000) == 1000);
		/* A hole larger than the file system costs nothing. */
		MUST(ftruncate(file, 1l << 40) == 0);
		MUST(pread(file, bytes, 100, 1l << 39) == 100 && bytes[50] == 0);
		FAILS(pwrite(file, bytes, 1, INT64_MAX), EFBIG);
		FAILS(ftruncate(file, -1), EINVAL);
		MUST(unlink("/tmp/full/large") == 0 && close(file) == 0);
		int count = 0;
		char name[64];
		for (;; count++) {
			sprintf(name, "/tmp/full/%d", count);
			file = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
			if (file < 0)
				break;
			close(file);
		}
		if (errno != ENOSPC || count < 450 || count > 500)
			wrong("%d files, then %s", count, strerrorname_np(errno));
		while (count-- > 0) {
			sprintf(name, "/tmp/full/%d", count);
			MUST(unlink(name) == 0);
		}
	}
	MUST(statfs("/tmp/full", &after) == 0);
	MUST(before.f_bfree == after.f_bfree && before.f_ffree == after.f_ffree);
	MUST(umount("/tmp/full") == 0 && rmdir("/tmp/full") == 0);
}

/* Very many names, in one folder and in another file system after another. */
static void eat_names(void)
{
	char name[64];

	if (mkdir("/tmp/names", 0755) || chdir("/tmp/names"))
		_exit(3);
	for (int i = 0; i < 400000; i++) {
		sprintf(name, "a-rather-long-name-of-a-file-%d", i);
		if (mknod(name, S_IFREG | 0600, 0)) {
			printf("%d names, then %s\n", i, strerrorname_np(errno));
			break;
		}
	}
}

static void remove_names(void)
{
	char name[64];

	if (chdir("/tmp/names"))
		return;
	for (int i = 0; i < 400000; i++) {
		sprintf(name, "a-rather-long-name-of-a-file-%d", i);
		if (unlink(name))
			break;
	}
	MUST(chdir("/") == 0 && rmdir("/tmp/names") == 0);
}

static void names(void)
{
	Memory before = memory_now();

	greedy("names", eat_names);
	remove_names();
	memory_is_back("names", before, 2048);
}

static void *sleep_long(void *argument)
{
	pause();
	return argument;
}

static void eat_threads(void)
{
	pthread_attr_t small;
	pthread_t thread;
	int count = 0;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 1 << 14);
	while (count < 40000 && pthread_create(&thread, &small, sleep_long, NULL) == 0)
		count++;
	printf("%d threads\n", count);
}

static void threads(void)
{
	check("threads", eat_threads);
}

static void eat_areas(void)
{
	char *memory = mmap(NULL, 1ul << 32, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	long count = 0;

	if (memory == MAP_FAILED)
		return;
	while (mprotect(memory + 2 * count * PAGE, PAGE, PROT_READ) == 0 && count < 500000)
		count++;
	printf("%ld areas, then %s\n", count, strerrorname_np(errno));
	if (count > 70000)
		wrong("there is no limit of areas");
}

static void areas(void)
{
	check("areas", eat_areas);
}

static void eat_queues(void)
{
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
	sigset_t blocked;

	sigfillset(&blocked);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	setrlimit(RLIMIT_SIGPENDING, &limit);
	for (int i = 0; i < 3000000; i++)
		if (sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i}))
			return;
}

static void queues(void)
{
	check("queues", eat_queues);
}

/* execve with more than fits. */
static void arguments(void)
{
	enum { MANY = 600000 };
	char *large = malloc(1 << 22), **list = calloc(MANY + 1, sizeof *list);
	char *const none[] = {NULL};

	memset(large, 'a', 1 << 22);
	large[(1 << 22) - 1] = 0;
	for (int i = 0; i < MANY; i++)
		list[i] = "abcdefg";
	char *const one[] = {"shortage", large, NULL};
	FAILS(execve("/proc/self/exe", one, none), E2BIG);
	FAILS(execve("/proc/self/exe", none, one), E2BIG);
	FAILS(execve("/proc/self/exe", list, none), E2BIG);
	FAILS(execve("/proc/self/exe", list, list), E2BIG);
	large[131072] = 0;
	FAILS(execve("/proc/self/exe", one, none), E2BIG);
	FAILS(syscall(SYS_execve, "/proc/self/exe", 8, none), EFAULT);
	FAILS(syscall(SYS_execve, "/proc/self/exe", 0xffff800000000000, none), EFAULT);
	large[131071] = 0;
	pid_t child = fork();
	if (child == 0) {
		char *const longest[] = {"shortage", "--exit", large, NULL};

		execve("/proc/self/exe", longest, none);
		_exit(1);
	}
	int status = 0;
	MUST(waitpid(child, &status, 0) == child && status == 0x900);
	free(large);
	free(list);
}

static void eat_locks(void)
{
	int file = open("/tmp/locks", O_RDWR | O_CREAT, 0600);

	for (long i = 0; i < 5000; i++) {
		struct flock lock = {.l_type = i % 2 ? F_RDLCK : F_WRLCK, .l_start = 3 * i, .l_len = 1};

		if (fcntl(file, F_SETLK, &lock))
			return;
	}
}

static void locks(void)
{
	check("locks", eat_locks);
	unlink("/tmp/locks");
}

int main(int argc, char **argv)
{
	static const Part parts[] = {
		{"eater", eater}, {"eaters", eaters}, {"sleeper", sleeper},	{"tables", tables},
		{"pipes", pipes}, {"files", files},   {"names", names},		{"threads", threads},
		{"areas", areas}, {"queues", queues}, {"arguments", arguments}, {"locks", locks},
	};

	if (argc > 1 && strcmp(argv[1], "--exit") == 0)
		return 9;
	run_parts(parts, COUNT(parts), argc > 1 ? argv[1] : NULL);
	return verdict();
}
