/* What the kernel allocates for a program shows in /proc/meminfo: as Slab, and as memory that is not free any more. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 4000 };

static long kilobytes(const char *name)
{
	char line[128];
	long value = -1;
	FILE *file = fopen("/proc/meminfo", "r");
	while (file && fgets(line, sizeof line, file))
		if (!strncmp(line, name, strlen(name)))
			sscanf(line + strlen(name), ": %ld", &value);
	if (file)
		fclose(file);
	return value;
}

static const char *path(int number)
{
	static char path[64];
	snprintf(path, sizeof path, "/tmp/slab_counts/a-file-with-a-long-name-%d", number);
	return path;
}

int main(void)
{
	mkdir("/tmp/slab_counts", 0700);
	long before = kilobytes("Slab");
	for (int number = 0; number < FILES; number++) {
		int file = open(path(number), O_CREAT | O_WRONLY, 0600);
		if (file < 0)
			return perror("open"), 1;
		close(file);
	}
	long with_files = kilobytes("Slab");
	/* An inode, an entry and its name take more than 150 bytes in any kernel; Linux's take a kilobyte. */
	long least = FILES * 150L / 1024;
	if (before <= 0 || with_files - before < least)
		printf("Slab was %ld kB and is %ld kB: fewer than %ld kB more\n", before, with_files, least);
	for (int number = 0; number < FILES; number++)
		unlink(path(number));
	rmdir("/tmp/slab_counts");
	puts("ok");
	return 0;
}
