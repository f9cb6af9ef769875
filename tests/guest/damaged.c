/*
 * damaged COUNT PROGRAM: makes COUNT damaged copies of a program, seeded, and starts each. Every start must end: refused with
 * an errno, or killed, or even well. Free memory afterwards is as before.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t seed = 88172645463325252u;

static uint64_t any(uint64_t below)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return below ? seed % below : 0;
}

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

/* Changes a copy: single bytes or whole numbers of the headers, noise in the code, or a cut. */
static size_t damage(unsigned char *copy, size_t length)
{
	static const uint64_t interesting[] = {0, 1, 0xfff, 0x1000, 0x7fffffff, 0xffffffff, 0x7ffffffff000, 0x800000000000,
		0xffffffff80000000, 0x7fffffffffffffff, 0xffffffffffffffff};
	int changes = 1 + any(4);

	while (changes--)
		switch (any(5)) {
		case 0:
			copy[any(64)] ^= 1 << any(8);
			break;
		case 1:
			copy[any(64 + 56 * 8)] = any(256);
			break;
		case 2:
			memcpy(copy + 16 + 4 * any(110), &interesting[any(11)], any(2) ? 8 : 4);
			break;
		case 3:
			for (int i = 0; i < 64; i++)
				copy[any(length)] = any(256);
			break;
		case 4:
			if (any(4) == 0)
				length = any(length);
			break;
		}
	return length;
}

int main(int argc, char **argv)
{
	static unsigned char good[2 << 20], copy[2 << 20];
	long refused = 0, killed = 0, exited = 0, count = argc > 1 ? atol(argv[1]) : 10;
	int file = argc > 2 ? open(argv[2], O_RDONLY) : -1;
	ssize_t length = file < 0 ? -1 : read(file, good, sizeof good);

	if (length < 1000) {
		printf("no program\n");
		return 2;
	}
	close(file);
	long before = 0;
	for (long i = -5; i < count; i++) {
		if (i == 0)
			before = free_kib();
		memcpy(copy, good, length);
		size_t left = damage(copy, length);
		file = open("/tmp/damaged", O_WRONLY | O_CREAT | O_TRUNC, 0755);
		if (write(file, copy, left) != (ssize_t)left)
			return 3;
		close(file);
		pid_t child = fork();
		if (child == 0) {
			/* A copy may well run for ever: its time is limited. */
			int null = open("/dev/null", O_RDWR);
			dup2(null, 0), dup2(null, 1), dup2(null, 2);
			alarm(1);
			execl("/tmp/damaged", "damaged", (char *)NULL);
			_exit(200);
		}
		int status;
		if (waitpid(child, &status, 0) != child)
			return 4;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 200)
			refused++;
		else if (WIFSIGNALED(status))
			killed++;
		else
			exited++;
		unlink("/tmp/damaged");
	}
	long after = free_kib();
	printf("%ld refused, %ld killed, %ld exited; free memory %ld KiB before, %ld KiB after\n", refused, killed, exited, before,
	       after);
	return after < before - 512 || !refused || !killed || !exited;
}
