/*
 * forks COUNT [PROGRAM]: starts COUNT processes one after the other, each of which runs a program (or just exits), and says
 * how much free memory there was before and after. Exits with 1 when memory was lost.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static long free_kib(void)
{
	char line[128];
	long value = -1;
	FILE *file = fopen("/proc/meminfo", "r");

	while (file && fgets(line, sizeof line, file))
		if (sscanf(line, "MemFree: %ld", &value) == 1)
			break;
	if (file)
		fclose(file);
	return value;
}

static int run(long count, char *program)
{
	for (long i = 0; i < count; i++) {
		int status;
		pid_t child = vfork();
		if (child == 0) {
			if (program)
				execl(program, program, (char *)NULL);
			_exit(program ? 99 : 0);
		}
		if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
			printf("failed after %ld\n", i);
			return 1;
		}
	}
	return 0;
}

/* Real forks: the child has the parent's memory, and writes to it. */
static int run_forks(long count, char *program)
{
	static char memory[64 * 1024];

	for (long i = 0; i < count; i++) {
		int status;
		pid_t child = fork();
		if (child == 0) {
			memset(memory, (int)i, sizeof memory);
			if (program)
				execl(program, program, (char *)NULL);
			_exit(program ? 99 : 0);
		}
		if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
			printf("failed after %ld\n", i);
			return 1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 100;
	char *program = argc > 2 ? argv[2] : NULL;

	/* Caches fill up first. */
	if (run(100, program) || run_forks(100, program))
		return 2;
	long before = free_kib();
	if (run_forks(count, program))
		return 2;
	long after = free_kib();
	printf("%ld processes, free memory %ld KiB before, %ld KiB after\n", count, before, after);
	/* A page per CPU may wait in caches; a leak of one page a process would be far more. */
	return after < before - 512;
}
