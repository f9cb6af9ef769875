/*
 * Many of one kind: what a kernel keeps of them in one table must not need one piece of memory, nor one moment.
 */
#include "twin.h"

#define FILES 50000
#define AREAS 60000
#define RESERVED (1UL << 40)

static void files(void)
{
	char name[32];
	struct stat status;
	int made = 0, found = 0, removed = 0;
	TRY(mkdir("many", 0755));
	TRY(chdir("many"));
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof name, "a file of some length %d", i);
		made += mknod(name, S_IFREG | 0644, 0) == 0;
	}
	for (int i = 0; i < FILES; i += 7) {
		snprintf(name, sizeof name, "a file of some length %d", i);
		found += stat(name, &status) == 0;
	}
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof name, "a file of some length %d", i);
		removed += unlink(name) == 0;
	}
	printf("files made %d, found %d, removed %d\n", made, found, removed);
	TRY(chdir(".."));
	TRY(rmdir("many"));
}

static void descriptors(void)
{
	struct rlimit limit = {1048576, 1048576};
	TRY(setrlimit(RLIMIT_NOFILE, &limit));
	TRY(dup2(0, 1048575));
	TRY(fcntl(0, F_DUPFD, 1048575));
	TRY(fcntl(0, F_DUPFD, 1000000));
	CHILD(TRY(fcntl(1048575, F_GETFD)); fflush(stdout));
	TRY(close_range(3, ~0U, 0));
}

/* Counts the lines of a file that begin with an address in a range, reading so many bytes at a time. */
static int lines(const char *path, unsigned long start, unsigned long end, size_t piece)
{
	static char text[1 << 16];
	int file = open(path, O_RDONLY), count = 0;
	size_t kept = 0;
	ssize_t length;
	while ((length = read(file, text + kept, piece)) > 0) {
		char *line = text, *stop = text + kept + length, *next;
		while ((next = memchr(line, '\n', stop - line))) {
			char *after;
			unsigned long address = strtoul(line, &after, 16);
			count += *after == '-' && address >= start && address < end;
			line = next + 1;
		}
		kept = stop - line;
		memmove(text, line, kept);
	}
	close(file);
	return count;
}

/* A value of an area in smaps, in kB. */
static long value(unsigned long start, const char *name)
{
	char line[512];
	int inside = 0;
	long found = -1;
	FILE *file = fopen("/proc/self/smaps", "r");
	while (found < 0 && fgets(line, sizeof line, file)) {
		char *after;
		unsigned long address = strtoul(line, &after, 16);
		if (*after == '-')
			inside = address == start;
		else if (inside && strncmp(line, name, strlen(name)) == 0)
			found = atol(line + strlen(name));
	}
	fclose(file);
	return found;
}

static void areas(void)
{
	int split = 0;
	char *start = mmap(NULL, AREAS * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (int i = 0; i < AREAS; i += 2)
		split += mprotect(start + i * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0;
	unsigned long first = (unsigned long)start, end = first + AREAS * PAGE;
	printf("split %d\n", split);
	printf("in maps: %d\n", lines("/proc/self/maps", first, end, 1 << 15));
	printf("in a few pieces: %d\n", lines("/proc/self/maps", first, end, 1000));
	TRY(munmap(start, AREAS * PAGE));
}

/* What smaps and its sum cost follows what is there, not what is reserved. */
static void reserved(void)
{
	char *start = mmap(NULL, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	mprotect(start + RESERVED / 2, 4 * PAGE, PROT_READ | PROT_WRITE);
	memset(start + RESERVED / 2, 1, 3 * PAGE);
	unsigned long middle = (unsigned long)start + RESERVED / 2;
	printf("size %ld, resident %ld\n", value((unsigned long)start, "Size:"), value((unsigned long)start, "Rss:"));
	printf("size %ld, resident %ld\n", value(middle, "Size:"), value(middle, "Rss:"));
	printf("in the sum: %d\n", lines("/proc/self/smaps_rollup", 0, ~0UL, 1000));
	TRY(munmap(start, RESERVED));
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	files();
	descriptors();
	areas();
	reserved();
	return 0;
}
