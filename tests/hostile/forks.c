/*
 * Makes very many processes and looks whether memory is as it was before.
 *
 * usage: forks [PART [COUNT]]
 * PART: fork, exec (fork and execve), vfork (vfork and execve), clone (threads), family (grandchildren left to init),
 * zombies (many at once), or all. COUNT (1,000) processes each.
 */
#include "hostile.h"
#include <sched.h>

static unsigned count = 1000;

static void one_fork(void)
{
	pid_t child = fork();

	if (child == 0)
		_exit(7);
	int status = 0;
	MUST(child > 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
}

static char *const arguments[] = {"forks", "--exit", NULL};
static char *const environment[] = {NULL};

static void one_exec(void)
{
	pid_t child = fork();

	if (child == 0) {
		execve("/proc/self/exe", arguments, environment);
		_exit(1);
	}
	int status = 0;
	MUST(child > 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 8);
}

static void one_vfork(void)
{
	pid_t child = vfork();

	if (child == 0) {
		execve("/proc/self/exe", arguments, environment);
		_exit(1);
	}
	int status = 0;
	MUST(child > 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 8);
}

static void *nothing(void *argument)
{
	return argument;
}

static void one_clone(void)
{
	pthread_t thread;
	void *result = NULL;

	MUST(pthread_create(&thread, NULL, nothing, &count) == 0 && pthread_join(thread, &result) == 0);
	MUST(result == &count);
}

static void one_family(void)
{
	pid_t child = fork();

	if (child == 0) {
		if (fork() == 0)
			sched_yield();
		_exit(0);
	}
	MUST(child > 0 && waitpid(child, NULL, 0) == child);
}

/* A hundred at once, the parent not looking. */
static void hundred_zombies(void)
{
	for (int i = 0; i < 100; i++) {
		pid_t child = fork();

		if (child == 0)
			_exit(0);
		MUST(child > 0);
	}
	MUST(collect_all() == 100);
}

static void many(const char *name, void (*one)(void), unsigned times)
{
	for (unsigned i = 0; i < 300 && i < times; i++)
		one();
	Memory before = memory_now();
	uint64_t start = now_ns();
	for (unsigned i = 0; i < times; i++) {
		one();
		if (i && i % 10000 == 0)
			printf("%s: %u, free memory %ld KiB\n", name, i, memory_row("MemFree:"));
	}
	uint64_t time = now_ns() - start;
	printf("%s: %u in %llu ms, %llu us each\n", name, times, (unsigned long long)time / 1000000,
	       (unsigned long long)time / times / 1000);
	/* Each processor keeps a stock of free objects of its own. */
	memory_is_back(name, before, 64 + 64 * sysconf(_SC_NPROCESSORS_ONLN));
}

static void forks(void)
{
	many("fork", one_fork, count);
}

static void execs(void)
{
	many("exec", one_exec, count);
}

static void vforks(void)
{
	many("vfork", one_vfork, count);
}

static void clones(void)
{
	many("clone", one_clone, count);
}

static void families(void)
{
	many("family", one_family, count);
}

static void zombies(void)
{
	many("zombies", hundred_zombies, count / 100 + 1);
}

int main(int argc, char **argv)
{
	static const Part parts[] = {
		{"fork", forks},   {"exec", execs},	 {"vfork", vforks},
		{"clone", clones}, {"family", families}, {"zombies", zombies},
	};

	if (argc > 1 && strcmp(argv[1], "--exit") == 0)
		_exit(8);
	if (argc > 2)
		count = atoi(argv[2]);
	run_parts(parts, COUNT(parts), argc > 1 ? argv[1] : NULL);
	return verdict();
}
